# What the homelab needs of AWS: an identity provider for the cluster's service account issuer (identity.tf), and for
# each service account that reads secrets one role that may read its own parameters and nothing else (readers.tf).
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region              = local.region
  allowed_account_ids = [local.account]
}

locals {
  region  = "us-west-2"
  account = "111122223333"

  # service account => the parameters its pods read
  readers = {
    "cloudflared/cloudflared" = ["/homelab/cloudflared/tunnel"]
    "notes/notes"             = ["/homelab/notes/database"]
  }
}

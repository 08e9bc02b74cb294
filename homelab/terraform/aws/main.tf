# What the homelab needs of AWS: an identity provider for the cluster's service account issuer, and for each service
# account that reads secrets one role that may read its own parameters and nothing else.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = local.region
}

locals {
  region = "us-west-2"
  issuer = "homelab-oidc.s3.us-west-2.amazonaws.com"

  # service account => the parameters its pods read
  readers = {
    "cloudflared/cloudflared" = ["/homelab/cloudflared/tunnel"]
    "notes/notes"             = ["/homelab/notes/database"]
  }
}

data "aws_caller_identity" "current" {}

resource "aws_iam_openid_connect_provider" "cluster" {
  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "reader" {
  for_each = local.readers

  name = "homelab-${split("/", each.key)[1]}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = aws_iam_openid_connect_provider.cluster.arn }
      Condition = {
        StringEquals = {
          "${local.issuer}:sub" = "system:serviceaccount:${replace(each.key, "/", ":")}"
          "${local.issuer}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "reader" {
  for_each = local.readers

  name = "parameters"
  role = aws_iam_role.reader[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["ssm:GetParameters"]
      Resource = [for p in each.value : "arn:aws:ssm:${local.region}:${data.aws_caller_identity.current.account_id}:parameter${p}"]
    }]
  })
}

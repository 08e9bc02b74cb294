# The issuer's documents: a bucket that everybody may read, filled by `druse identity publish`. STS reads them to check
# the tokens that the cluster signs.
resource "aws_s3_bucket" "issuer" {
  bucket = "homelab-oidc"
}

resource "aws_s3_bucket_public_access_block" "issuer" {
  bucket                  = aws_s3_bucket.issuer.id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = false
  restrict_public_buckets = false
}

data "aws_iam_policy_document" "issuer" {
  statement {
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.issuer.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
  }
}

resource "aws_s3_bucket_policy" "issuer" {
  bucket     = aws_s3_bucket.issuer.id
  policy     = data.aws_iam_policy_document.issuer.json
  depends_on = [aws_s3_bucket_public_access_block.issuer]
}

resource "aws_iam_openid_connect_provider" "cluster" {
  url            = "https://${aws_s3_bucket.issuer.bucket_regional_domain_name}"
  client_id_list = ["sts.amazonaws.com"]
}

provider "aws" {
  region              = "us-west-2"
  allowed_account_ids = ["111122223333"]
}
resource "aws_s3_bucket" "oidc" { bucket = "home-oidc" }
resource "aws_iam_openid_connect_provider" "cluster" {
  url            = "https://${aws_s3_bucket.oidc.bucket_regional_domain_name}"
  client_id_list = ["sts.amazonaws.com", "elsewhere"]
}
locals {
  readers = { "ns:app" = ["/home/app/*", "/plain"], "other:db" = ["/home/other/*"], "ns:locked" = ["/home/locked"] }
}
resource "aws_iam_role" "r" {
  for_each = local.readers
  name     = split(":", each.key)[1]
  assume_role_policy = jsonencode({ Statement = [{
    Effect    = "Allow"
    Action    = "sts:AssumeRoleWithWebIdentity"
    Principal = { Federated = aws_iam_openid_connect_provider.cluster.arn }
    Condition = { StringEquals = {
      "${aws_iam_openid_connect_provider.cluster.url}:sub" = "system:serviceaccount:${each.key}"
      "${aws_iam_openid_connect_provider.cluster.url}:aud" = "sts.amazonaws.com"
    } }
  }] })
}
resource "aws_iam_role_policy" "r" {
  for_each = local.readers
  role     = aws_iam_role.r[each.key].name
  policy = jsonencode({ Statement = [{
    Effect   = "Allow"
    Action   = ["ssm:GetParameters", "secretsmanager:GetSecretValue"]
    Resource = concat(
      [for path in each.value : "arn:aws:ssm:us-west-2:111122223333:parameter${path}"],
      ["arn:aws:secretsmanager:*:*:secret:${split(":", each.key)[1]}-*"],
    )
  }] })
}
resource "aws_ssm_parameter" "locked" {
  name   = "/home/locked"
  type   = "SecureString"
  key_id = "alias/home"
}

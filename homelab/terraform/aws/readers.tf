# One role and policy for each service account, and the parameters by name. Their values are set elsewhere and never
# seen here.
resource "aws_ssm_parameter" "secret" {
  for_each = toset(flatten(values(local.readers)))

  name  = each.key
  type  = "SecureString"
  value = "set elsewhere"

  lifecycle {
    ignore_changes = [value]
  }
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
          "${aws_iam_openid_connect_provider.cluster.url}:sub" = "system:serviceaccount:${replace(each.key, "/", ":")}"
          "${aws_iam_openid_connect_provider.cluster.url}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })
}

resource "aws_iam_policy" "reader" {
  for_each = local.readers

  name = "homelab-${split("/", each.key)[1]}"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "ssm:GetParameters"
      Resource = [for name in each.value : aws_ssm_parameter.secret[name].arn]
    }]
  })
}

resource "aws_iam_role_policy_attachment" "reader" {
  for_each = local.readers

  role       = aws_iam_role.reader[each.key].name
  policy_arn = aws_iam_policy.reader[each.key].arn
}

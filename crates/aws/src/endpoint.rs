//! Where services answer, by region and partition, or where the environment says.

/// The services of the secrets path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Security Token Service.
    Sts,
    /// Systems Manager, for the Parameter Store.
    Ssm,
    /// Secrets Manager.
    SecretsManager,
    /// Simple Storage Service.
    S3,
}

impl Service {
    /// Its name in scopes and host names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Ssm => "ssm",
            Self::SecretsManager => "secretsmanager",
            Self::S3 => "s3",
        }
    }

    /// The standard variable that names its endpoint.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Sts => "AWS_ENDPOINT_URL_STS",
            Self::Ssm => "AWS_ENDPOINT_URL_SSM",
            Self::SecretsManager => "AWS_ENDPOINT_URL_SECRETS_MANAGER",
            Self::S3 => "AWS_ENDPOINT_URL_S3",
        }
    }
}

/// The partition of a region.
#[must_use]
pub fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

/// The domain that a region's services are under.
#[must_use]
pub fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Endpoints, as the standard variables say: `AWS_ENDPOINT_URL_<SERVICE>` before `AWS_ENDPOINT_URL`, both ignored when
/// `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is true; `AWS_STS_REGIONAL_ENDPOINTS` and `AWS_USE_FIPS_ENDPOINT` choose among AWS'
/// own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    all: Option<String>,
    own: Vec<(Service, String)>,
    /// STS' one endpoint for all regions instead of a region's own.
    global_sts: bool,
    fips: bool,
}

impl Endpoints {
    /// From the environment's variables.
    #[must_use]
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|v| !v.is_empty());
        let is = |name: &str, word: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case(word));
        let global_sts = is("AWS_STS_REGIONAL_ENDPOINTS", "legacy");
        let fips = is("AWS_USE_FIPS_ENDPOINT", "true");
        if is("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true") {
            return Self { global_sts, fips, ..Self::default() };
        }
        let services = [Service::Sts, Service::Ssm, Service::SecretsManager, Service::S3];
        Self {
            all: variable("AWS_ENDPOINT_URL"),
            own: services.into_iter().filter_map(|s| Some((s, variable(s.variable())?))).collect(),
            global_sts,
            fips,
        }
    }

    /// One endpoint for all services.
    #[must_use]
    pub fn all(url: impl Into<String>) -> Self {
        Self { all: Some(url.into()), ..Self::default() }
    }

    /// Where to read what everybody may read: at its URL, or, where that is a bucket's and the environment says where S3
    /// answers, there. STS does the same with an issuer's documents when it is a cloud on this machine.
    #[must_use]
    pub fn public_url(&self, url: &str) -> String {
        let own = self.own.iter().find(|(s, _)| *s == Service::S3).map(|(_, url)| url).or(self.all.as_ref());
        let bucket = url.strip_prefix("https://").and_then(|rest| {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (bucket, of) = host.split_once(".s3.")?;
            let of = of.strip_suffix(".cn").unwrap_or(of).strip_suffix("amazonaws.com")?;
            // `bucket.s3.amazonaws.com`, or with the region between.
            let region = of.strip_suffix('.').unwrap_or(of);
            (!region.contains('.') && !bucket.is_empty()).then_some((bucket, path))
        });
        match (own, bucket) {
            (Some(endpoint), Some((bucket, path))) => format!("{}/{bucket}/{path}", endpoint.trim_end_matches('/')),
            _ => url.to_string(),
        }
    }

    /// The URL of a service in a region, without a slash at its end.
    #[must_use]
    pub fn url(&self, service: Service, region: &str) -> String {
        let own = self.own.iter().find(|(s, _)| *s == service).map(|(_, url)| url);
        match own.or(self.all.as_ref()) {
            Some(url) => url.trim_end_matches('/').to_string(),
            None if service == Service::Sts && self.global_sts && partition(region) == "aws" => {
                "https://sts.amazonaws.com".into()
            }
            None => format!(
                "https://{}{}.{region}.{}",
                service.name(),
                if self.fips { "-fips" } else { "" },
                domain(region)
            ),
        }
    }
}

/// The region, as the standard variables say.
#[must_use]
pub fn region(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|n| variable(n).filter(|v| !v.is_empty()))
}

/// How often a call that may succeed later is tried again: one less than `AWS_MAX_ATTEMPTS`.
#[must_use]
pub fn retries(variable: impl Fn(&str) -> Option<String>) -> u32 {
    const ATTEMPTS: u32 = 4;
    variable("AWS_MAX_ATTEMPTS").and_then(|v| v.parse().ok()).filter(|n| *n > 0).unwrap_or(ATTEMPTS) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_own_variable_wins() {
        let set = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some("http://127.0.0.1:1/".to_string()),
            "AWS_ENDPOINT_URL_SSM" => Some("http://127.0.0.1:2".to_string()),
            _ => None,
        };
        let e = Endpoints::from_environment(set);
        assert_eq!(e.url(Service::Ssm, "us-west-2"), "http://127.0.0.1:2");
        assert_eq!(e.url(Service::Sts, "us-west-2"), "http://127.0.0.1:1");
        let ignored = |n: &str| if n == "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" { Some("true".into()) } else { set(n) };
        let e = Endpoints::from_environment(ignored);
        assert_eq!(e.url(Service::Ssm, "us-west-2"), "https://ssm.us-west-2.amazonaws.com");
        assert_eq!(e.url(Service::Sts, "cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn a_buckets_documents_are_read_where_s3_answers() {
        let documents = "https://home-oidc.s3.us-west-2.amazonaws.com/openid/v1/jwks";
        let here = Endpoints::all("http://127.0.0.1:1/");
        assert_eq!(here.public_url(documents), "http://127.0.0.1:1/home-oidc/openid/v1/jwks");
        assert_eq!(here.public_url("https://a.b.s3.amazonaws.com/x"), "http://127.0.0.1:1/a.b/x");
        for other in ["https://oidc.example.org/x", "https://a.s3.example.org/x", "https://a.s3.x.y.amazonaws.com/x"] {
            assert_eq!(here.public_url(other), other);
        }
        assert_eq!(Endpoints::default().public_url(documents), documents);
    }

    #[test]
    fn which_of_aws_own_endpoints_is_asked_can_be_chosen() {
        let set = |name: &str| match name {
            "AWS_STS_REGIONAL_ENDPOINTS" => Some("legacy".to_string()),
            "AWS_USE_FIPS_ENDPOINT" => Some("true".to_string()),
            "AWS_MAX_ATTEMPTS" => Some("1".to_string()),
            _ => None,
        };
        let e = Endpoints::from_environment(set);
        assert_eq!(e.url(Service::Sts, "us-west-2"), "https://sts.amazonaws.com");
        assert_eq!(e.url(Service::Sts, "cn-north-1"), "https://sts-fips.cn-north-1.amazonaws.com.cn");
        assert_eq!(e.url(Service::Ssm, "us-west-2"), "https://ssm-fips.us-west-2.amazonaws.com");
        assert_eq!((retries(set), retries(|_| None)), (0, 3));
    }
}

//! Why a step of the path failed: what AWS and the network answer, told apart by what a person has to do.
//!
//! STS gives one code for four causes and one for two; what the token says of itself tells most of them apart. The
//! provider, `druse secrets trace` and the rehearsal all say it in these words.

use druse_aws::error::TransportKind;
use druse_aws::iam::provider_name;
use druse_aws::{AwsError, Cause as AwsCause};

use crate::token::{ALGORITHM, AUDIENCE, Facts};

/// What is most likely wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The account has no OIDC provider for the token's issuer.
    IssuerUnknown,
    /// The key that signed the token is not among those the issuer publishes.
    KeyNotPublished,
    /// The token is not signed with RS256.
    Algorithm,
    /// The token's audience is none of the OIDC provider's client ids.
    AudienceUnknown,
    /// STS takes the token for none.
    NoToken,
    /// STS could not read the issuer's documents.
    IssuerUnreachable,
    /// The token's time is over.
    TokenExpired,
    /// This machine's clock and AWS' are apart.
    ClockSkew,
    /// The role's trust policy does not let this subject with this audience in, or there is no such role.
    TrustDenied,
    /// The role's policies do not allow to read the object.
    PermissionDenied,
    /// The role may not use the key that encrypts the object.
    KmsDenied,
    /// The object, or the version asked for, is not there.
    NotFound,
    /// The service's name is not resolved.
    NoName,
    /// No connection to the service comes about.
    NoRoute,
    /// The service's certificate is not trusted.
    Certificate,
    /// The session's credentials are over or are not known.
    Credentials,
    /// Asked too often.
    Throttled,
    /// The service failed.
    Unavailable,
    /// The request is not what the service takes.
    Request,
}

impl Reason {
    /// A short name, for output that is read by programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::IssuerUnknown => "issuer-unknown",
            Self::KeyNotPublished => "key-not-published",
            Self::Algorithm => "algorithm",
            Self::AudienceUnknown => "audience-unknown",
            Self::NoToken => "no-token",
            Self::IssuerUnreachable => "issuer-unreachable",
            Self::TokenExpired => "token-expired",
            Self::ClockSkew => "clock-skew",
            Self::TrustDenied => "trust-denied",
            Self::PermissionDenied => "permission-denied",
            Self::KmsDenied => "kms-denied",
            Self::NotFound => "not-found",
            Self::NoName => "no-name",
            Self::NoRoute => "no-route",
            Self::Certificate => "certificate",
            Self::Credentials => "credentials",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Request => "request",
        }
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(self, Self::IssuerUnreachable | Self::NoName | Self::NoRoute | Self::Throttled | Self::Unavailable)
    }
}

/// The likely cause of a failure, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What is most likely wrong.
    pub reason: Reason,
    /// The same in words, with the names it is about.
    pub text: String,
    /// What would help.
    pub remedy: String,
}

impl Cause {
    fn new(reason: Reason, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason, text: text.into(), remedy: remedy.into() }
    }
}

/// The cause of a refused `AssumeRoleWithWebIdentity`; `now` is this machine's time in seconds since 1970.
#[must_use]
pub fn of_assume(error: &AwsError, token: &Facts, role: &str, now: i64) -> Cause {
    let message = match error {
        AwsError::Service { message, .. } => message.as_str(),
        _ => "",
    };
    let issuer = &token.issuer;
    match error.cause() {
        AwsCause::Expired if token.expires > now => Cause::new(
            Reason::ClockSkew,
            format!(
                "by this machine's clock the token is valid for {} more seconds, by AWS' it is over",
                token.expires - now
            ),
            "set the clocks of the nodes (NTP)",
        ),
        AwsCause::Expired => of_expired(now.saturating_sub(token.expires)),
        AwsCause::InvalidIdentity if token.algorithm != ALGORITHM => Cause::new(
            Reason::Algorithm,
            format!("the token is signed with {}, and STS takes {ALGORITHM} only", token.algorithm),
            "give the cluster an RSA key: `druse identity keygen`, then `druse identity rotate` (Talos signs with ES256 \
             unless told otherwise)",
        ),
        AwsCause::InvalidIdentity if message.contains("No OpenIDConnect provider found") => Cause::new(
            Reason::IssuerUnknown,
            format!("the account has no IAM OIDC provider for the token's issuer {issuer}"),
            "declare aws_iam_openid_connect_provider with exactly this URL, in the account of the role",
        ),
        AwsCause::InvalidIdentity if message.contains("audience") => Cause::new(
            Reason::AudienceUnknown,
            format!(
                "the token is for {}, and none of that is among the client ids of the OIDC provider of {issuer}",
                token.audiences.join(", ")
            ),
            format!("add {AUDIENCE} to client_id_list, and ask for tokens with this audience"),
        ),
        AwsCause::InvalidIdentity if message.contains("not valid yet") || token.issued > now + 300 => Cause::new(
            Reason::ClockSkew,
            "the token is not valid yet: the clock of the API server and AWS' are apart",
            "set the clocks of the control plane (NTP)",
        ),
        AwsCause::InvalidIdentity if message.contains("verification key") => Cause::new(
            Reason::KeyNotPublished,
            format!(
                "{issuer} does not publish the key {} that signed the token, or publishes another under its id",
                token.key_id
            ),
            format!("compare with `druse identity verify {issuer}`, then `druse identity publish`"),
        ),
        AwsCause::InvalidIdentity => Cause::new(
            Reason::NoToken,
            "STS takes the token for none",
            format!("compare the issuer's documents with `druse identity verify {issuer}`"),
        ),
        AwsCause::IssuerUnreachable => Cause::new(
            Reason::IssuerUnreachable,
            format!("STS could not read the documents of {issuer}"),
            "make them public, at exactly this URL, with a certificate of a public authority",
        ),
        AwsCause::Denied => Cause::new(
            Reason::TrustDenied,
            format!(
                "the trust policy of {role} does not let {} with audience {} in, or there is no such role",
                token.subject,
                token.audiences.join(", ")
            ),
            format!(
                "its conditions must allow {host}:sub = {} (the likelier to be wrong) and {host}:aud = {AUDIENCE}, its \
                 principal the OIDC provider of this issuer; `druse secrets check` names the line",
                token.subject,
                host = provider_name(issuer)
            ),
        ),
        _ => of_service(error, "STS"),
    }
}

/// The cause of a token that was over so many seconds ago.
pub(crate) fn of_expired(seconds: i64) -> Cause {
    Cause::new(
        Reason::TokenExpired,
        format!("the token's time was over {seconds} seconds ago"),
        "let the kubelet or the provider ask for a new one: is the volume republished (requiresRepublish, rotation)?",
    )
}

/// The cause of a token that is over though it was made just now.
pub(crate) fn of_born_expired() -> Cause {
    Cause::new(
        Reason::ClockSkew,
        "the token was made just now, and by this machine's clock its time is over: the clock of the API server and this \
         machine's are apart",
        "set the clocks of the control plane and of this machine (NTP)",
    )
}

/// The cause of a value that could not be read.
#[must_use]
pub fn of_read(error: &AwsError, role: &str, objects: &[String]) -> Cause {
    let all = objects;
    let objects = some(all);
    let (action, service) = match error {
        AwsError::Service { service: "ssm", .. } => ("ssm:GetParameters", "the Parameter Store"),
        AwsError::Service { .. } => ("secretsmanager:GetSecretValue", "Secrets Manager"),
        AwsError::Transport { service: "ssm", .. } | AwsError::Answer { service: "ssm", .. } => {
            ("", "the Parameter Store")
        }
        _ => ("", "Secrets Manager"),
    };
    match error.cause() {
        AwsCause::Denied => Cause::new(
            Reason::PermissionDenied,
            format!("no policy of {role} allows {action} on {objects}"),
            format!("allow {action} on its ARN (a name's first slash and the one of the ARN are the same one)"),
        ),
        AwsCause::KmsDenied => Cause::new(
            Reason::KmsDenied,
            format!("{role} may read {objects}, but not use the KMS key that encrypts it"),
            "allow kms:Decrypt on that key in the role's policy, and let the key's policy delegate to IAM",
        ),
        AwsCause::NotFound => not_found(all),
        AwsCause::Expired => Cause::new(
            Reason::Credentials,
            "the session's credentials are over",
            "they are renewed before they end: compare this machine's clock with AWS'",
        ),
        _ => of_service(error, service),
    }
}

/// The cause of objects that a store does not have.
pub(crate) fn not_found(objects: &[String]) -> Cause {
    Cause::new(
        Reason::NotFound,
        format!("{} is not in this account and region, or has no such version or label", some(objects)),
        "compare name, account, region and version",
    )
}

/// What can go wrong with any service.
fn of_service(error: &AwsError, service: &str) -> Cause {
    if let AwsError::Transport { url, kind, .. } = error {
        return match kind {
            TransportKind::Dns => Cause::new(
                Reason::NoName,
                format!("the name of {url} is not resolved"),
                "look at DNS from this node (CoreDNS, the node's resolver) and at network policies for port 53",
            ),
            TransportKind::Tls => Cause::new(
                Reason::Certificate,
                format!("the certificate of {url} is not trusted here"),
                "a proxy that opens TLS needs its authority in AWS_CA_BUNDLE",
            ),
            TransportKind::Connect | TransportKind::Timeout | TransportKind::Other => Cause::new(
                Reason::NoRoute,
                format!("no connection to {url} comes about"),
                "look at the network policies and firewall between the provider's pods and AWS, and at HTTPS_PROXY",
            ),
        };
    }
    match error.cause() {
        AwsCause::Throttled => {
            Cause::new(Reason::Throttled, format!("{service} was asked too often"), "it is tried again by itself")
        }
        AwsCause::Signature
            if matches!(error, AwsError::Service { message, code, .. }
            if message.contains("Signature expired") || message.contains("not yet current") || code.contains("Skewed")) =>
        {
            Cause::new(Reason::ClockSkew, "this machine's clock and AWS' are apart", "set the clock of this node (NTP)")
        }
        AwsCause::Signature => Cause::new(
            Reason::Credentials,
            format!("{service} does not know the session's credentials"),
            "are STS and the service of the same account, or both of the same local cloud?",
        ),
        AwsCause::Unavailable | AwsCause::Network | AwsCause::IssuerUnreachable => {
            Cause::new(Reason::Unavailable, format!("{service} failed"), "it is tried again by itself")
        }
        _ => Cause::new(Reason::Request, format!("{service} does not take the request"), "compare the class' objects"),
    }
}

/// The first few of many names.
pub(crate) fn some(names: &[String]) -> String {
    const SHOWN: usize = 10;
    match names.len() {
        0 => "it".into(),
        n if n <= SHOWN => names.join(", "),
        n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(service: &'static str, code: &str, message: &str, status: u16) -> AwsError {
        let (code, message) = (code.to_string(), message.to_string());
        AwsError::Service { service, operation: "Op".into(), code, message, status, request_id: String::new() }
    }

    fn token() -> Facts {
        Facts {
            algorithm: "RS256".into(),
            key_id: "k1".into(),
            issuer: "https://oidc.example".into(),
            audiences: vec![AUDIENCE.into()],
            subject: "system:serviceaccount:ns:app".into(),
            issued: 1000,
            expires: 2000,
            ..Facts::default()
        }
    }

    #[test]
    fn what_sts_puts_under_one_code_is_told_apart() {
        let invalid = |message: &str, token: &Facts| {
            of_assume(&refused("sts", "InvalidIdentityToken", message, 400), token, "role/x", 1500).reason
        };
        let t = token();
        assert_eq!(
            invalid("No OpenIDConnect provider found in your account for https://oidc.example", &t),
            Reason::IssuerUnknown
        );
        assert_eq!(invalid("Incorrect token audience", &t), Reason::AudienceUnknown);
        let no_key = "Couldn't retrieve verification key from your identity provider, please reference …";
        assert_eq!(invalid(no_key, &t), Reason::KeyNotPublished);
        assert_eq!(invalid(no_key, &Facts { algorithm: "ES256".into(), ..t.clone() }), Reason::Algorithm);
        assert_eq!(invalid("The ID Token provided is not a valid JWT.", &t), Reason::NoToken);
        assert_eq!(invalid("Token is not valid yet: …", &t), Reason::ClockSkew);
        let expired = refused("sts", "ExpiredTokenException", "Token expired: …", 400);
        assert_eq!(of_assume(&expired, &t, "role/x", 2500).reason, Reason::TokenExpired);
        assert_eq!(of_assume(&expired, &t, "role/x", 1500).reason, Reason::ClockSkew);
        let denied = refused("sts", "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403);
        let denied = of_assume(&denied, &t, "role/x", 1500);
        assert_eq!(denied.reason, Reason::TrustDenied);
        assert!(denied.remedy.contains("oidc.example:sub = system:serviceaccount:ns:app"), "{}", denied.remedy);
    }

    #[test]
    fn a_denied_parameter_and_a_denied_key_are_told_apart() {
        let reason = |code: &str, message: &str| of_read(&refused("ssm", code, message, 400), "r", &[]).reason;
        let denied = "User: x is not authorized to perform: ssm:GetParameters on resource: y because …";
        assert_eq!(reason("AccessDeniedException", denied), Reason::PermissionDenied);
        let kms = "User: x is not authorized to perform: kms:Decrypt on resource: y because …";
        assert_eq!(reason("AccessDeniedException", kms), Reason::KmsDenied);
        let kms = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or \
                   you are not allowed to access.";
        assert_eq!(reason("AccessDeniedException", kms), Reason::KmsDenied);
        assert_eq!(reason("AccessDeniedException", "Access to KMS is not allowed"), Reason::KmsDenied);
        assert_eq!(reason("ParameterNotFound", ""), Reason::NotFound);
        assert_eq!(reason("ThrottlingException", "Rate exceeded"), Reason::Throttled);
        assert_eq!(
            reason("InvalidSignatureException", "Signature expired: 1 is now earlier than 2"),
            Reason::ClockSkew
        );
        assert_eq!(reason("UnrecognizedClientException", "…invalid."), Reason::Credentials);
        let failed = refused("ssm", "InternalServerError", "", 500);
        assert_eq!(of_read(&failed, "r", &[]).reason, Reason::Unavailable);
    }

    #[test]
    fn no_name_and_no_route_are_told_apart() {
        let at = |kind| {
            let url = "https://sts.us-west-2.amazonaws.com".to_string();
            let e = AwsError::Transport { service: "sts", operation: "Op".into(), url, kind, cause: "x".into() };
            of_assume(&e, &token(), "r", 0).reason
        };
        assert_eq!(at(TransportKind::Dns), Reason::NoName);
        assert_eq!(at(TransportKind::Timeout), Reason::NoRoute);
        assert_eq!(at(TransportKind::Connect), Reason::NoRoute);
        assert_eq!(at(TransportKind::Tls), Reason::Certificate);
        assert!(Reason::NoRoute.is_passing() && !Reason::TrustDenied.is_passing());
    }
}

//! Failures, told apart by what a person does about them.

/// A call that failed. Its text names service, operation and AWS' own words; never a value or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// The service answered with an error.
    #[error("{service} {operation}: {code}: {message}")]
    Service {
        /// Which service.
        service: &'static str,
        /// What was asked.
        operation: String,
        /// AWS' code, without namespace.
        code: String,
        /// AWS' words.
        message: String,
        /// The HTTP status.
        status: u16,
        /// The request's id, for AWS' support.
        request_id: String,
    },
    /// There was no answer.
    #[error("{service} {operation}: {url}: {cause}")]
    Transport {
        /// Which service.
        service: &'static str,
        /// What was asked.
        operation: String,
        /// Where.
        url: String,
        /// What kind of failure.
        kind: TransportKind,
        /// What the system said.
        cause: String,
    },
    /// The answer cannot be read.
    #[error("{service} {operation}: the answer is not understood: {cause}")]
    Answer {
        /// Which service.
        service: &'static str,
        /// What was asked.
        operation: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// The name is not known.
    Dns,
    /// No connection.
    Connect,
    /// The other side's certificate, or no common protocol.
    Tls,
    /// It took too long.
    Timeout,
    /// Anything else, such as a connection that broke off.
    Other,
}

/// What is most likely wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// STS cannot read the issuer's documents, does not know the issuer or key, or the key is ES256.
    InvalidIdentity,
    /// The token or the session is over.
    Expired,
    /// STS could not reach the issuer.
    IssuerUnreachable,
    /// A policy does not allow it: the trust policy for `AssumeRoleWithWebIdentity`, else the role's.
    Denied,
    /// The key that encrypts the value may not be used.
    KmsDenied,
    /// It does not exist.
    NotFound,
    /// The request's signature: keys, clock.
    Signature,
    /// Asked too often.
    Throttled,
    /// The service itself failed; asking again may help.
    Unavailable,
    /// The request is wrong.
    Invalid,
    /// No route or name to the service.
    Network,
}

impl AwsError {
    /// AWS' code, where the service answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Service { code, .. } => Some(code),
            _ => None,
        }
    }

    /// What is most likely wrong.
    #[must_use]
    pub fn cause(&self) -> Cause {
        let (code, message, status) = match self {
            Self::Transport { .. } => return Cause::Network,
            Self::Answer { .. } => return Cause::Unavailable,
            Self::Service { code, message, status, .. } => (code.as_str(), message.as_str(), *status),
        };
        match code {
            "InvalidIdentityToken" => Cause::InvalidIdentity,
            "ExpiredTokenException" | "ExpiredToken" => Cause::Expired,
            "IDPCommunicationError" => Cause::IssuerUnreachable,
            // In the words of the Parameter Store, of KMS itself, and of Secrets Manager.
            "AccessDenied" | "AccessDeniedException"
                if ["kms:", "ciphertext refers to a customer master key", "Access to KMS is not allowed"]
                    .iter()
                    .any(|words| message.contains(words)) =>
            {
                Cause::KmsDenied
            }
            "AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "IDPRejectedClaim" => Cause::Denied,
            "InvalidKeyId" | "KMSAccessDeniedException" | "DecryptionFailure" => Cause::KmsDenied,
            "ParameterNotFound"
            | "ParameterVersionNotFound"
            | "ResourceNotFoundException"
            | "NoSuchKey"
            | "NoSuchBucket" => Cause::NotFound,
            "SignatureDoesNotMatch"
            | "InvalidSignatureException"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidAccessKeyId"
            | "RequestTimeTooSkewed"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature" => Cause::Signature,
            "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" | "SlowDown" => {
                Cause::Throttled
            }
            _ if status >= 500 => Cause::Unavailable,
            _ if status == 403 => Cause::Denied,
            _ if status == 404 => Cause::NotFound,
            _ => Cause::Invalid,
        }
    }

    /// Whether asking again may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Transport { kind, .. } => !matches!(kind, TransportKind::Tls),
            _ => matches!(self.cause(), Cause::Throttled | Cause::Unavailable | Cause::IssuerUnreachable),
        }
    }
}

impl Cause {
    /// What a person would look at.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::InvalidIdentity => {
                "STS does not accept the token itself: is the issuer an IAM OIDC provider, is its key published (`druse \
                 identity verify ISSUER`), is it an RSA key, and is the token's audience among the provider's client ids?"
            }
            Self::Expired => "the token or session is over: compare the clocks, and see whether tokens are renewed",
            Self::IssuerUnreachable => {
                "STS could not read the issuer's documents: are they public, at the issuer's URL?"
            }
            Self::Denied => {
                "a policy does not allow it: for AssumeRoleWithWebIdentity the role's trust policy (subject, audience), \
                 else the policies of the role; `druse secrets check` names the line"
            }
            Self::KmsDenied => "the role lacks kms:Decrypt on the key that encrypts the value",
            Self::NotFound => "there is nothing of this name in this account and region",
            Self::Signature => "the credentials are wrong, or the clock is",
            Self::Throttled => "asked too often; it is tried again",
            Self::Unavailable => "the service failed; it is tried again",
            Self::Invalid => "the request is not what the service takes",
            Self::Network => "no route or name to the service: look at DNS, network policies and proxies",
        }
    }
}

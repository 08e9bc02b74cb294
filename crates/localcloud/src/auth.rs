//! Who asks, and may they: signatures, sessions, policies.

use druse_aws::arn::Arn;
use druse_aws::iam::{self, Decision, Policy};
use druse_aws::sigv4::{Authorization, SignatureError, sha256_hex};
use zeroize::Zeroizing;

use crate::answer::{Fault, Form};
use crate::cloud::Cloud;
use crate::request::Request;

/// A role's session.
pub(crate) struct Session {
    pub(crate) secret: Zeroizing<String>,
    pub(crate) token: Zeroizing<String>,
    pub(crate) role: usize,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) expires: i64,
}

/// Who makes a request.
pub(crate) enum Caller {
    /// May do everything.
    Administrator,
    /// A role's session.
    Session { role: usize, name: String, id: String },
}

/// Letters of key ids.
pub(crate) const ID: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A random text of these letters. Without randomness the process is not fit to give out keys: it is empty then, and an
/// empty key signs nothing that is accepted.
pub(crate) fn random_text(length: usize, letters: &[u8]) -> String {
    druse_aws::random::text(letters, length).map(|mut t| std::mem::take(&mut *t)).unwrap_or_default()
}

impl Caller {
    pub(crate) fn arn(&self, cloud: &Cloud) -> String {
        match self {
            Self::Administrator => format!("arn:aws:iam::{}:user/administrator", cloud.account),
            Self::Session { role, name, .. } => {
                format!("arn:aws:sts::{}:assumed-role/{}/{name}", cloud.account, cloud.roles[*role].name)
            }
        }
    }

    /// Evaluates the caller's policies.
    pub(crate) fn may(&self, cloud: &Cloud, action: &str, resource: &str) -> Result<(), Fault> {
        let Self::Session { role, .. } = self else { return Ok(()) };
        let role = &cloud.roles[*role];
        let policies: Vec<&Policy> = role.policies.iter().collect();
        let request = iam::Request::new(action, resource)
            .with("aws:PrincipalArn", &*role.arn)
            .with("aws:PrincipalAccount", &*cloud.account)
            .with("aws:RequestedRegion", &*cloud.region)
            .with("aws:SecureTransport", "true");
        // Of an alias that is not declared it is not known which key it leads to: a policy that allows some keys is
        // believed to mean that one.
        let some_key = resource.contains(iam::HOLE);
        let why = match iam::evaluate(&policies, &request) {
            Decision::Allowed(..) => return Ok(()),
            Decision::Unknown(_) if some_key => return Ok(()),
            Decision::Denied(..) => format!("with an explicit deny in an identity-based policy: {action}"),
            Decision::NotAllowed => format!("because no identity-based policy allows the {action} action"),
            Decision::Unknown(why) => {
                tracing::warn!(role = role.name, "refused because a policy is not known: {why}");
                format!("because no identity-based policy allows the {action} action")
            }
        };
        let who = self.arn(cloud);
        Err(Fault::new(
            400,
            "AccessDeniedException",
            format!(
                "User: {who} is not authorized to perform: {action} on resource: {} {why}",
                resource.replace(iam::HOLE, "*")
            ),
        ))
    }

    /// Whether the caller may decrypt with a key, by any of its names.
    pub(crate) fn may_decrypt(&self, cloud: &Cloud, key: &str) -> Result<(), Fault> {
        let (region, account) = (&*cloud.region, &*cloud.account);
        let partition = druse_aws::endpoint::partition(region);
        let beside = Arn { partition, service: "kms", region, account, resource: "key" };
        self.may(cloud, "kms:Decrypt", &druse_terraform::kms::key_arn(&cloud.aliases, key, &beside))
    }
}

/// Checks a request's signature and session.
pub(crate) fn caller(cloud: &Cloud, request: &Request, service: &str, form: Form) -> Result<Caller, Fault> {
    let code = |json, query, s3| match form {
        Form::Json => json,
        Form::Query => query,
        Form::S3 => s3,
    };
    let status = if form == Form::Json { 400 } else { 403 };
    let refuse = |code, message: String| Fault::new(status, code, message);
    let bad = |e: &SignatureError| {
        let c = match e {
            SignatureError::Missing => {
                code("MissingAuthenticationTokenException", "MissingAuthenticationToken", "AccessDenied")
            }
            SignatureError::Malformed(_) => {
                code("IncompleteSignatureException", "IncompleteSignature", "AuthorizationHeaderMalformed")
            }
            SignatureError::Skewed(_) => {
                code("InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed")
            }
            SignatureError::Mismatch => {
                code("InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch")
            }
        };
        refuse(c, e.to_string())
    };
    let auth = Authorization::read(&request.headers).map_err(|e| bad(&e))?;
    if auth.service != service || auth.region != cloud.region {
        // STS is global too: its old endpoint signs for us-east-1.
        if !(service == "sts" && auth.service == "sts" && auth.region == "us-east-1") {
            let text = format!(
                "Credential should be scoped to a valid region: this is {service} in {}, not {} in {}",
                cloud.region, auth.service, auth.region
            );
            return Err(refuse(
                code("InvalidSignatureException", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"),
                text,
            ));
        }
    }
    let unknown = || {
        refuse(
            code("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"),
            "The security token included in the request is invalid.".into(),
        )
    };
    let now = cloud.now();
    let (secret, caller) = if auth.access_key_id == cloud.administrator.access_key_id {
        (cloud.administrator.secret_access_key.clone(), Caller::Administrator)
    } else {
        let state = cloud.state.lock();
        let s = state.sessions.get(&auth.access_key_id).ok_or_else(unknown)?;
        let token = request.header("x-amz-security-token").unwrap_or_default();
        let same = ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref()
            == ring::digest::digest(&ring::digest::SHA256, s.token.as_bytes()).as_ref();
        if !same {
            return Err(unknown());
        }
        if s.expires <= now {
            return Err(refuse(
                code("ExpiredTokenException", "ExpiredToken", "ExpiredToken"),
                "The security token included in the request is expired".into(),
            ));
        }
        (s.secret.clone(), Caller::Session { role: s.role, name: s.name.clone(), id: s.id.clone() })
    };
    // What is signed must be what was sent.
    let actual = sha256_hex(&request.body);
    let claimed = request.header("x-amz-content-sha256");
    let hash = match claimed {
        None => actual.as_str(),
        Some("UNSIGNED-PAYLOAD") if form == Form::S3 => "UNSIGNED-PAYLOAD",
        Some(h) if h == actual => h,
        Some(h) if h.starts_with("STREAMING-") => {
            return Err(Fault::new(501, "NotImplemented", "signed chunks are not served here"));
        }
        Some(_) => {
            return Err(Fault::new(400, "XAmzContentSHA256Mismatch", "the body is not what x-amz-content-sha256 says"));
        }
    };
    let signed = druse_aws::sigv4::Request { payload_hash: hash, ..request.signed() };
    auth.check(&signed, &secret, now).map_err(|e| bad(&e))?;
    Ok(caller)
}

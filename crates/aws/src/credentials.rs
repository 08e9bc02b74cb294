//! Credentials: long-lived keys of a person, or a role's for an hour.

use zeroize::Zeroizing;

/// What requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public part.
    pub access_key_id: String,
    /// The secret part.
    pub secret_access_key: Zeroizing<String>,
    /// Of a role's session.
    pub session_token: Option<Zeroizing<String>>,
    /// When they end, in seconds since 1970; never, when absent.
    pub expires: Option<i64>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Long-lived keys.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: Zeroizing::new(secret_access_key.into()),
            session_token: None,
            expires: None,
        }
    }

    /// From the standard variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), or from a profile
    /// of the shared credentials file's text.
    #[must_use]
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>, file: Option<&str>) -> Option<Self> {
        let variable = |name: &str| variable(name).filter(|v| !v.is_empty());
        if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            let mut c = Self::new(id, secret);
            c.session_token = variable("AWS_SESSION_TOKEN").map(Zeroizing::new);
            return Some(c);
        }
        let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".into());
        Self::from_profile(file?, &profile)
    }

    /// From a profile of a shared credentials file.
    #[must_use]
    pub fn from_profile(file: &str, profile: &str) -> Option<Self> {
        let mut within = false;
        let (mut id, mut secret, mut token) = (None, None, None);
        for line in file.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                within = name.trim() == profile;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| within) {
                let value = value.trim().to_string();
                match key.trim() {
                    "aws_access_key_id" => id = Some(value),
                    "aws_secret_access_key" => secret = Some(value),
                    "aws_session_token" => token = Some(Zeroizing::new(value)),
                    _ => {}
                }
            }
        }
        let mut c = Self::new(id?, secret?);
        c.session_token = token;
        Some(c)
    }
}

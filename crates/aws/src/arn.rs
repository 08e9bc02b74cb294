//! Amazon resource names.

/// An ARN taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn`, …
    pub partition: &'a str,
    /// `iam`, `ssm`, …
    pub service: &'a str,
    /// Empty for global services.
    pub region: &'a str,
    /// Twelve digits.
    pub account: &'a str,
    /// The rest.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Takes an ARN apart; `None` when it is none.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next()? != "arn" {
            return None;
        }
        let arn = Self {
            partition: parts.next()?,
            service: parts.next()?,
            region: parts.next()?,
            account: parts.next()?,
            resource: parts.next()?,
        };
        (!arn.partition.is_empty() && !arn.service.is_empty() && !arn.resource.is_empty()).then_some(arn)
    }

    /// The name of a role without its path; `None` for anything else.
    #[must_use]
    pub fn role_name(&self) -> Option<&'a str> {
        let path = self.resource.strip_prefix("role/").filter(|_| self.service == "iam")?;
        path.rsplit('/').next()
    }
}

/// The ARN of a parameter. A name that is a path begins with a slash, any other has none; in the ARN both stand after
/// exactly one.
#[must_use]
pub fn parameter(partition: &str, region: &str, account: &str, name: &str) -> String {
    format!("arn:{partition}:ssm:{region}:{account}:parameter/{}", name.strip_prefix('/').unwrap_or(name))
}

/// A parameter's name from its ARN: a path keeps its slash when there is another slash in it.
#[must_use]
pub fn parameter_name(arn: &Arn<'_>) -> Option<String> {
    let rest = arn.resource.strip_prefix("parameter/").filter(|_| arn.service == "ssm")?;
    Some(if rest.contains('/') { format!("/{rest}") } else { rest.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_stand_after_one_slash() {
        let arn = |name| parameter("aws", "us-west-2", "111122223333", name);
        assert_eq!(arn("/a/b"), "arn:aws:ssm:us-west-2:111122223333:parameter/a/b");
        assert_eq!(arn("plain"), "arn:aws:ssm:us-west-2:111122223333:parameter/plain");
        assert_eq!(parameter_name(&Arn::parse(&arn("/a/b")).unwrap()).as_deref(), Some("/a/b"));
        assert_eq!(parameter_name(&Arn::parse(&arn("plain")).unwrap()).as_deref(), Some("plain"));
    }

    #[test]
    fn roles_have_names_and_paths() {
        let role = Arn::parse("arn:aws:iam::111122223333:role/team/reader").unwrap();
        assert_eq!(role.role_name(), Some("reader"));
        assert_eq!(Arn::parse("arn:aws:iam::1"), None);
        assert_eq!(Arn::parse("urn:aws:iam::1:role/x"), None);
    }
}

//! What goes wrong, with the step, the objects, the role and the likely cause.

use druse_aws::AwsError;

use crate::cause::{Cause, some};

/// The steps of a mount, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The request is read.
    Request,
    /// The pod is compared with the API.
    Pod,
    /// The role of its ServiceAccount.
    Account,
    /// The region.
    Region,
    /// The SecretProviderClass is read.
    Class,
    /// The token.
    Token,
    /// `AssumeRoleWithWebIdentity`.
    Assume,
    /// Values are read.
    Read,
    /// Values are made into files.
    Value,
}

impl Step {
    /// What is done in it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "reading the request",
            Self::Pod => "checking the pod",
            Self::Account => "finding the role",
            Self::Region => "finding the region",
            Self::Class => "reading the SecretProviderClass",
            Self::Token => "getting the pod's token",
            Self::Assume => "assuming the role",
            Self::Read => "reading the values",
            Self::Value => "making files of the values",
        }
    }
}

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// When.
    pub step: Step,
    /// What.
    pub what: String,
    /// The objects it is about; all of them, when empty.
    pub objects: Vec<String>,
    /// The role that was used.
    pub role: Option<String>,
    /// The region that was asked.
    pub region: Option<String>,
    /// The likely cause, where AWS or the network answered.
    pub cause: Option<Cause>,
    /// What would help, where there is no cause.
    pub remedy: String,
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(step: Step, what: impl Into<String>) -> Self {
        Self {
            step,
            what: what.into(),
            objects: Vec::new(),
            role: None,
            region: None,
            cause: None,
            remedy: String::new(),
        }
    }

    pub(crate) fn aws(step: Step, e: &AwsError, cause: Cause) -> Self {
        let what = match e {
            AwsError::Service { request_id, .. } if !request_id.is_empty() => format!("{e} (request {request_id})"),
            _ => e.to_string(),
        };
        Self { cause: Some(cause), ..Self::new(step, what) }
    }

    pub(crate) fn help(self, remedy: &str) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    pub(crate) fn objects(self, objects: Vec<String>) -> Self {
        Self { objects, ..self }
    }

    pub(crate) fn role(self, role: &str) -> Self {
        Self { role: Some(role.into()), ..self }
    }

    pub(crate) fn region(self, region: &str) -> Self {
        Self { region: Some(region.into()), ..self }
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.cause.as_ref().is_some_and(|c| c.reason.is_passing())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.step.name())?;
        if !self.objects.is_empty() {
            write!(f, " of {}", some(&self.objects))?;
        }
        match (&self.role, &self.region) {
            (Some(role), Some(region)) => write!(f, " ({role}, {region})")?,
            (Some(one), None) | (None, Some(one)) => write!(f, " ({one})")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.what)?;
        if let Some(cause) = &self.cause {
            write!(f, "; likely cause: {}; {}", cause.text, cause.remedy)?;
        } else if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why a pod does not get its files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pod {pod}: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))]
pub struct ProviderError {
    /// The pod, `namespace/name`.
    pub pod: String,
    /// What went wrong, at least one thing.
    pub problems: Vec<Problem>,
}

impl ProviderError {
    /// A request that cannot be read.
    #[must_use]
    pub fn request(pod: &str, what: impl Into<String>) -> Self {
        Self { pod: pod.into(), problems: vec![Problem::new(Step::Request, what)] }
    }

    /// The first step that failed.
    #[must_use]
    pub fn step(&self) -> Step {
        self.problems.first().map_or(Step::Request, |p| p.step)
    }

    /// Whether all of it may pass by itself.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.problems.iter().all(Problem::is_passing)
    }
}

//! AWS as a protocol, for both ends of it.
//!
//! [`sigv4`] signs requests and checks signatures, [`client`] speaks to the services of the secrets path (STS, the
//! Parameter Store, Secrets Manager, S3), [`error`] tells failures apart by what a person does about them, [`arn`] and
//! [`iam`] read and evaluate what roles and policies say, [`sealed`] holds values that leave no copy behind, [`random`]
//! makes new ones. Nothing here knows Kubernetes, reads the environment or prints; credentials are zeroed when dropped and
//! are in no `Debug` output.

pub mod arn;
pub mod client;
pub mod credentials;
pub mod encoding;
pub mod endpoint;
pub mod error;
pub mod iam;
pub mod random;
pub mod sealed;
pub mod sigv4;
pub mod xml;

pub use client::Client;
pub use credentials::Credentials;
pub use error::{AwsError, Cause};

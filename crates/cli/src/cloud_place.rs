//! Where an issuer's documents go: a folder, or a bucket over S3.

use druse_aws::endpoint::{self, Endpoints, retries};
use druse_aws::{Client, Credentials};
use druse_identity::IdentityError;
use druse_identity::documents::Document;
use druse_identity::publish::{Folder, Outcome, Place};
use druse_secrets::provider::Settings;

use crate::error::CliError;

/// A bucket, with a prefix for keys.
struct Bucket {
    client: Client,
    credentials: Credentials,
    bucket: String,
    prefix: String,
    runtime: tokio::runtime::Runtime,
}

/// The place that `--to` names: a folder, or `s3://BUCKET[/PREFIX]`.
///
/// # Errors
/// When a bucket is named and there are no credentials or region.
pub fn place(to: &str, region_given: Option<&str>) -> Result<Box<dyn Place>, CliError> {
    let Some(rest) = to.strip_prefix("s3://") else { return Ok(Box::new(Folder(to.into()))) };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(
            CliError::new(format!("{to}: there is no bucket in it")).help("write s3://BUCKET or s3://BUCKET/PREFIX")
        );
    }
    let credentials = credentials()?;
    let region = region_given
        .map(str::to_string)
        .or_else(region)
        .ok_or_else(|| CliError::new("the bucket's region is not known").help("set AWS_REGION, or give --region"))?;
    Ok(Box::new(Bucket {
        client: client(&region)?,
        credentials,
        bucket: bucket.to_string(),
        prefix: prefix.trim_matches('/').to_string(),
        runtime: crate::threads::few()?,
    }))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where AWS answers, by the standard variables.
pub fn endpoints() -> Endpoints {
    Endpoints::from_environment(variable)
}

/// A client for AWS, with the endpoints of the standard variables.
///
/// # Errors
/// When the network's options are unusable.
pub fn client(region: &str) -> Result<Client, CliError> {
    let http = druse_source::net::plain_client(&crate::network::options()).map_err(CliError::new)?;
    Ok(Client::new(http, endpoints(), region))
}

/// How the secrets path reaches AWS, as the standard variables say.
///
/// # Errors
/// When the network's options are unusable, or AWS_CA_BUNDLE names no readable file.
pub fn provider_settings() -> Result<Settings, CliError> {
    let mut network = crate::network::options();
    if let Some(file) = variable("AWS_CA_BUNDLE").filter(|f| !f.is_empty()) {
        let roots = std::fs::read_to_string(&file)
            .map_err(|e| CliError::new(format!("AWS_CA_BUNDLE names {file}, which cannot be read: {e}")))?;
        network.extra_roots = Some(roots);
    }
    let http = druse_source::net::plain_client(&network).map_err(CliError::new)?;
    let mut settings = Settings::new(http, endpoints());
    settings.region = region();
    settings.retries = retries(variable);
    Ok(settings)
}

/// The region of the standard variables.
pub fn region() -> Option<String> {
    endpoint::region(variable)
}

/// The credentials of a person, from the standard variables or the shared credentials file.
///
/// # Errors
/// When there are none.
pub fn credentials() -> Result<Credentials, CliError> {
    let file = variable("AWS_SHARED_CREDENTIALS_FILE").map(std::path::PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(std::path::PathBuf::from(home).join(".aws/credentials"))
    });
    let text = file.and_then(|f| std::fs::read_to_string(f).ok()).map(zeroize::Zeroizing::new);
    Credentials::from_environment(variable, text.as_ref().map(|t| t.as_str())).ok_or_else(|| {
        CliError::new("there are no AWS credentials").help(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials; after `aws sso login` \
             `eval \"$(aws configure export-credentials --format env)\"` sets them",
        )
    })
}

impl Bucket {
    fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_string() } else { format!("{}/{path}", self.prefix) }
    }

    fn wrong(e: &druse_aws::AwsError) -> IdentityError {
        IdentityError::Place(format!("{e} ({})", e.cause().help()))
    }
}

impl Place for Bucket {
    fn put(&self, d: &Document) -> Result<Outcome, IdentityError> {
        let key = self.key(&d.path);
        self.runtime.block_on(async {
            // Read as the administrator: a bucket whose policy is not public yet must not look empty.
            let before = self.client.get_object(&self.bucket, &key, Some(&self.credentials)).await;
            let before = before.map_err(|e| Self::wrong(&e))?;
            let same = before.as_ref().is_some_and(|b| {
                *b.body == d.text.as_bytes()
                    && b.header("content-type") == Some(d.content_type)
                    && b.header("cache-control") == Some(d.cache_control)
            });
            if same {
                return Ok(Outcome::Unchanged);
            }
            let headers = [("content-type", d.content_type), ("cache-control", d.cache_control)];
            let put = self.client.put_object(&self.bucket, &key, d.text.as_bytes(), &headers, &self.credentials).await;
            put.map_err(|e| Self::wrong(&e))?;
            Ok(if before.is_some() { Outcome::Updated } else { Outcome::Created })
        })
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, IdentityError> {
        let key = self.key(path);
        let got = self.runtime.block_on(self.client.get_object(&self.bucket, &key, Some(&self.credentials)));
        Ok(got.map_err(|e| Self::wrong(&e))?.map(|a| a.body.to_vec()))
    }
}

//! `CertificateApproval`, `CertificateSigning` and `CertificateSubjectRestriction`: who may approve and sign requests of
//! which signer, and that nobody becomes an administrator by one.

use base64::Engine as _;
use druse_object::Value;
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::auth::{Attributes, Decision};
use crate::server::Shared;
use crate::status::{Named, Status};

/// The plugin.
pub struct Certificates;

const GROUP: &str = "certificates.k8s.io";

impl Plugin for Certificates {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(judge(shared, review)))
    }
}

fn judge(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    if review.resource.stored_as != "certificatesigningrequests.certificates.k8s.io" {
        return Ok(());
    }
    let Some(new) = review.object.as_deref() else { return Ok(()) };
    let refuse = |why: String| {
        let n = Named { group: GROUP, resource: "certificatesigningrequests", name: review.name };
        Err(Status::forbidden(n, why))
    };
    let signer = review.old.unwrap_or(new).str_at(["spec", "signerName"]).unwrap_or_default();
    let (verb, doing) = match (review.operation, review.subresource) {
        (Operation::Create, "") => return restrict(new, signer).map_or(Ok(()), refuse),
        (Operation::Update, "approval") => ("approve", "approve"),
        (Operation::Update, "status") => {
            let part = |v: &Value, k: &str| v.at(["status", k]).cloned();
            let same = |k: &str| review.old.is_some_and(|old| part(old, k) == part(new, k));
            if same("certificate") && same("conditions") {
                return Ok(());
            }
            ("sign", "sign")
        }
        _ => return Ok(()),
    };
    let every = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
    let may = |name: &str| {
        let a = Attributes {
            verb: verb.into(),
            group: GROUP.into(),
            resource: "signers".into(),
            name: name.into(),
            ..Attributes::default()
        };
        shared.authorizer.decide(review.user, &a) != Decision::NoOpinion
    };
    if may(signer) || may(&every) {
        return Ok(());
    }
    refuse(format!("user not permitted to {doing} requests with signerName {}", crate::field::go_quote(signer)))
}

/// Why a request's subject is not acceptable.
fn restrict(csr: &Value, signer: &str) -> Option<String> {
    const MASTERS: &str = "system:masters";
    if signer != "kubernetes.io/kube-apiserver-client" {
        return None;
    }
    let pem = base64::engine::general_purpose::STANDARD.decode(csr.str_at(["spec", "request"])?).ok()?;
    // A request that cannot be read is refused by its validation.
    let user = crate::auth::request_subject(pem::parse(pem).ok()?.contents())?;
    user.groups
        .iter()
        .any(|g| g == MASTERS)
        .then(|| format!("use of {signer} signer with {MASTERS} group is not allowed"))
}

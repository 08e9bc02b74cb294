//! STS: a token for a role's session, and who one is.

use druse_aws::iam::{self, Decision, provider_name};
use druse_aws::xml::escape;
use druse_identity::jwt::{Expect, Refusal, Unverified};
use zeroize::Zeroizing;

use crate::answer::{Fault, Form, Response};
use crate::auth::{Caller, ID, Session, caller, random_text};
use crate::cloud::Cloud;
use crate::request::Request;

pub(crate) fn call(cloud: &Cloud, parameters: &[(String, String)], request: &Request) -> Result<Response, Fault> {
    let get = |name: &str| parameters.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    match get("Action") {
        Some("AssumeRoleWithWebIdentity") => assume(cloud, &get),
        Some("GetCallerIdentity") => {
            let who = caller(cloud, request, "sts", Form::Query)?;
            let id = match &who {
                Caller::Administrator => "AIDAADMINISTRATOR",
                Caller::Session { id, .. } => id,
            };
            let (arn, account) = (who.arn(cloud), &cloud.account);
            let text =
                format!("<Arn>{}</Arn><UserId>{}</UserId><Account>{account}</Account>", escape(&arn), escape(id));
            Ok(Response::query("GetCallerIdentity", &text))
        }
        other => {
            Err(Fault::new(400, "InvalidAction", format!("STS does not serve {:?} here", other.unwrap_or_default())))
        }
    }
}

const LIMIT_SECONDS: i64 = 3600;

fn assume<'a>(cloud: &Cloud, get: &impl Fn(&str) -> Option<&'a str>) -> Result<Response, Fault> {
    let invalid = |m: String| Fault::new(400, "ValidationError", m);
    let identity = |m: String| Fault::new(400, "InvalidIdentityToken", m);
    let need = |name: &str| {
        get(name)
            .filter(|v| !v.is_empty())
            .ok_or_else(|| invalid(format!("1 validation error detected: {name} is missing")))
    };
    let (role_arn, session, text) = (need("RoleArn")?, need("RoleSessionName")?, need("WebIdentityToken")?);
    let name_ok = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if !(2..=64).contains(&session.len()) || !session.chars().all(name_ok) {
        return Err(invalid("RoleSessionName must match [\\w+=,.@-]{2,64}".into()));
    }
    let seconds = match get("DurationSeconds").map(str::parse::<i64>) {
        None => LIMIT_SECONDS,
        Some(Ok(s)) if (900..=LIMIT_SECONDS).contains(&s) => s,
        Some(Ok(s)) if s > LIMIT_SECONDS => {
            return Err(invalid(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.".into(),
            ));
        }
        Some(_) => return Err(invalid("DurationSeconds must be a number of at least 900".into())),
    };
    let not_a_token = || {
        identity(
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)".into(),
        )
    };
    let token = Unverified::parse(text).map_err(|e| {
        tracing::info!("token refused: {e}");
        not_a_token()
    })?;
    let issuer = token.issuer().to_string();
    let provider =
        cloud.providers.iter().find(|p| issuer.starts_with("https://") && p.issuer == provider_name(&issuer));
    let Some(provider) = provider else {
        let shown: String = issuer.chars().take(255).filter(|c| !c.is_control()).collect();
        return Err(identity(format!("No OpenIDConnect provider found in your account for {shown}")));
    };
    let audiences: Vec<&str> = provider.client_ids.iter().map(String::as_str).collect();
    if !token.audiences().iter().any(|a| audiences.contains(a)) {
        return Err(identity("Incorrect token audience".into()));
    }
    let keys = cloud.issuer_keys(&issuer).map_err(|why| {
        tracing::info!(issuer, "the issuer's keys cannot be read: {why}");
        Fault::new(
            400,
            "IDPCommunicationError",
            "The request could not be fulfilled because the identity provider (IDP) that was asked to verify the \
             incoming identity token could not be reached.",
        )
    })?;
    let now = cloud.now();
    let expect = Expect { issuer: &issuer, audiences: &audiences, now, leeway: 300 };
    let claims = token.verify(&keys, &expect).map_err(|refusal| {
        tracing::info!(issuer, "token refused: {refusal}");
        match refusal {
            Refusal::Expired { by } => Fault::new(
                400,
                "ExpiredTokenException",
                format!("Token expired: current date/time {now} must be before the expiration date/time {}", now - by),
            ),
            Refusal::NotYet { .. } => identity("Token is not valid yet: its nbf or iat is in the future".into()),
            Refusal::Audience { .. } => identity("Incorrect token audience".into()),
            Refusal::Malformed(_) => not_a_token(),
            Refusal::Algorithm(_)
            | Refusal::NoKeyId
            | Refusal::UnknownKey(_)
            | Refusal::Signature(_)
            | Refusal::Issuer { .. } => identity(
                "Couldn't retrieve verification key from your identity provider, please reference \
                     AssumeRoleWithWebIdentity documentation for requirements"
                    .into(),
            ),
        }
    })?;
    let subject = claims.str_at(["sub"]).unwrap_or_default().to_string();
    let denied = || Fault::new(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
    let found = cloud.roles.iter().position(|r| r.arn == role_arn).ok_or_else(|| {
        tracing::info!(role = role_arn, "token refused: there is no such role here");
        denied()
    })?;
    let role = &cloud.roles[found];
    let mut asked = iam::Request::new("sts:AssumeRoleWithWebIdentity", role_arn)
        .with(&format!("{}:sub", provider.issuer), &*subject)
        .with("aws:FederatedProvider", &*provider.arn)
        .with("sts:RoleSessionName", session);
    for a in token.audiences() {
        asked = asked.with(&format!("{}:aud", provider.issuer), a);
    }
    match role.trust.as_ref().map(|t| iam::evaluate_trust(t, &provider.arn, &asked)) {
        Some(Decision::Allowed(..)) => {}
        why => {
            tracing::info!(
                role = role.name,
                subject,
                "token refused: the role's trust policy does not allow it: {why:?}"
            );
            return Err(denied());
        }
    }
    let key = format!("ASIA{}", random_text(16, ID));
    let letters = druse_aws::random::ALPHANUMERIC;
    let secret = Zeroizing::new(random_text(40, letters));
    let token_text = Zeroizing::new(random_text(200, letters));
    let id = format!("AROA{}:{session}", &druse_aws::sigv4::sha256_hex(role.arn.as_bytes())[..17].to_uppercase());
    let expires = now + seconds;
    let mut state = cloud.state.lock();
    state.sessions.retain(|_, s| s.expires > now - 3600);
    state.sessions.insert(
        key.clone(),
        Session {
            secret: secret.clone(),
            token: token_text.clone(),
            role: found,
            name: session.to_string(),
            id: id.clone(),
            expires,
        },
    );
    drop(state);
    let until = jiff::Timestamp::from_second(expires).map(|t| t.to_string()).unwrap_or_default();
    let arn = format!("arn:aws:sts::{}:assumed-role/{}/{session}", cloud.account, role.name);
    let audience = token.audiences().into_iter().find(|a| audiences.contains(a)).unwrap_or_default();
    let body = Zeroizing::new(format!(
        "<SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken><Audience>{}</Audience>\
         <AssumedRoleUser><Arn>{}</Arn><AssumedRoleId>{}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{until}</Expiration></Credentials><Provider>{}</Provider>",
        escape(&subject),
        escape(audience),
        escape(&arn),
        escape(&id),
        *secret,
        *token_text,
        escape(&provider.arn)
    ));
    Ok(Response::query("AssumeRoleWithWebIdentity", &body))
}

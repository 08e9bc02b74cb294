//! Who must not get what is another's, and what must not be seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::sync::Arc;

use common::{ISSUER, World, objects, reason, shown, with_token};
use druse_identity::{SigningKey, jwt};
use druse_object::Value;
use druse_secrets::cause::Reason;
use druse_secrets::provider::{Pod, Step};
use parking_lot::Mutex;

const PLAIN: &str = "- {objectName: plain, objectType: ssmparameter}";

fn set(claims: &mut Value, path: &[&str], value: impl Into<Value>) {
    match path {
        [name] => drop(claims.make_map().unwrap().insert(*name, value)),
        [a, name] => drop(claims.make_map_at([*a]).unwrap().insert(*name, value)),
        [a, b, name] => drop(claims.make_map_at([*a, *b]).unwrap().insert(*name, value)),
        _ => unreachable!("claims are not that deep"),
    }
}

/// What is answered to a pod that shows this token.
async fn shown_token(
    w: &World,
    pod: &Pod,
    key: &SigningKey,
    change: impl FnOnce(&mut Value),
) -> (Step, Option<Reason>) {
    let mut claims = w.api.claims(pod, "sts.amazonaws.com");
    change(&mut claims);
    let token = jwt::sign(key, &claims).unwrap();
    let provider = w.provider();
    // A pod that is in its rights has been here before: nothing of what it got may serve this one.
    let own = jwt::sign(&w.api.key, &w.api.claims(pod, "sts.amazonaws.com")).unwrap();
    provider.mount(&with_token(objects(pod, PLAIN), &own)).await.unwrap();
    let e = provider.mount(&with_token(objects(pod, PLAIN), &token)).await.unwrap_err();
    let text = e.to_string();
    assert!(!text.contains(&token) && !text.contains("of plain"), "{text}");
    (e.step(), reason(&e))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_this_pods_are_refused() {
    let w = World::local(None).await;
    let pod = w.app();
    let token = |step| (step, None::<Reason>);
    // Another namespace's, another ServiceAccount's, another pod's of the same ServiceAccount, an earlier pod's of the
    // same name, of an account that was made anew: all are told by the provider, whatever STS would say.
    for (path, value) in [
        (&["kubernetes.io", "namespace"][..], "other"),
        (&["kubernetes.io", "serviceaccount", "name"], "admin"),
        (&["kubernetes.io", "serviceaccount", "uid"], "earlier"),
        (&["kubernetes.io", "pod", "name"], "app-2"),
        (&["kubernetes.io", "pod", "uid"], "earlier"),
        (&["aud"], "vault"),
    ] {
        assert_eq!(shown_token(&w, &pod, &w.api.key, |c| set(c, path, value)).await, token(Step::Token), "{path:?}");
    }
    let unbound = |c: &mut Value| drop(c.make_map_at(["kubernetes.io"]).unwrap().remove("pod"));
    assert_eq!(shown_token(&w, &pod, &w.api.key, unbound).await, token(Step::Token), "bound to no pod");
    let over = |c: &mut Value| set(c, &["exp"], 1000);
    let refused = shown_token(&w, &pod, &w.api.key, over).await;
    assert_eq!(refused, (Step::Token, Some(Reason::TokenExpired)), "over");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_nobody_vouches_for_are_refused_by_sts() {
    let w = World::local(None).await;
    let pod = w.app();
    let sts = |reason| (Step::Assume, Some(reason));
    let stranger = SigningKey::generate(2048).unwrap();
    assert_eq!(shown_token(&w, &pod, &stranger, |_| {}).await, sts(Reason::KeyNotPublished), "a key of one's own");
    let foreign = |c: &mut Value| set(c, &["iss"], "https://evil.example");
    assert_eq!(shown_token(&w, &pod, &w.api.key, foreign).await, sts(Reason::IssuerUnknown));
    // What the provider compares is what it should be; whom STS is told of is another.
    let subject = |c: &mut Value| set(c, &["sub"], "system:serviceaccount:other:db");
    assert_eq!(shown_token(&w, &pod, &w.api.key, subject).await, sts(Reason::TrustDenied));
    let elsewhere = |c: &mut Value| {
        set(c, &["aud"], ["elsewhere", "sts.amazonaws.com"].into_iter().collect::<Value>());
        set(c, &["iat"], 4_000_000_000_i64);
    };
    assert_eq!(shown_token(&w, &pod, &w.api.key, elsewhere).await, sts(Reason::ClockSkew));

    // A key that was retired: STS no longer finds it, whatever was got with it before.
    let mut claims = w.api.claims(&pod, "sts.amazonaws.com");
    set(&mut claims, &["jti"], "before");
    let before = jwt::sign(&w.api.key, &claims).unwrap();
    w.provider().mount(&with_token(objects(&pod, PLAIN), &before)).await.unwrap();
    w.cloud().trust(ISSUER, vec![SigningKey::generate(2048).unwrap().public().clone()]);
    let e = w.provider().mount(&with_token(objects(&pod, PLAIN), &before)).await.unwrap_err();
    assert_eq!(reason(&e), Some(Reason::KeyNotPublished), "{e}");
}

/// Tokens whose header and signature were tampered with.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_other_algorithms_are_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let w = World::local(None).await;
    let pod = w.app();
    let good = jwt::sign(&w.api.key, &w.api.claims(&pod, "sts.amazonaws.com")).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let id = w.api.key.public().id();
    let header = |alg: &str| B64.encode(format!(r#"{{"alg":"{alg}","kid":"{id}"}}"#));
    let hmac = {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, w.api.key.public().pem().as_bytes());
        let text = format!("{}.{}", header("HS256"), parts[1]);
        format!("{text}.{}", B64.encode(ring::hmac::sign(&key, text.as_bytes())))
    };
    let mut flipped = B64.decode(parts[2]).unwrap();
    flipped[10] ^= 1;
    for (token, why) in [
        (format!("{}.{}.", header("none"), parts[1]), Reason::Algorithm),
        (hmac, Reason::Algorithm),
        (format!("{}.{}.{}", header("ES256"), parts[1], parts[2]), Reason::Algorithm),
        (format!("{}.{}.{}", parts[0], parts[1], B64.encode(flipped)), Reason::KeyNotPublished),
        (
            format!("{}.{}.{}", B64.encode(r#"{"alg":"RS256","kid":"another"}"#), parts[1], parts[2]),
            Reason::KeyNotPublished,
        ),
    ] {
        let e = w.provider().mount(&with_token(objects(&pod, PLAIN), &token)).await.unwrap_err();
        assert_eq!((e.step(), reason(&e)), (Step::Assume, Some(why)), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pods_that_run_here_as_they_say_are_served() {
    let w = World::local(None).await;
    let pod = w.app();
    let refused = async |pod: Pod| {
        let e = w.provider().mount(&objects(&pod, PLAIN)).await.unwrap_err();
        assert_eq!(e.step(), Step::Pod, "{e}");
        e.to_string()
    };
    let ghost = Pod { name: "ghost".into(), ..pod.clone() };
    assert!(refused(ghost).await.contains("no such pod"));
    let earlier = Pod { uid: "earlier".into(), ..pod.clone() };
    assert!(refused(earlier).await.contains("has UID uid-of-app-1"));
    let other = Pod { account: "db".into(), ..pod.clone() };
    assert!(refused(other).await.contains("runs as ServiceAccount app"));
    w.api.add("pods", "ns", "far", r#"{"spec":{"nodeName":"node-2","serviceAccountName":"app"}}"#);
    let far = Pod { name: "far".into(), uid: "uid-of-far".into(), ..pod.clone() };
    assert!(refused(far).await.contains("runs on node \"node-2\""));
    let nowhere = r#"{"spec":{"serviceAccountName":"app"}}"#;
    w.api.add("pods", "ns", "nowhere", nowhere);
    refused(Pod { name: "nowhere".into(), uid: "uid-of-nowhere".into(), ..pod.clone() }).await;
    assert_eq!(w.api.tokens_asked.load(std::sync::atomic::Ordering::Relaxed), 0, "no token is asked for before");
    w.provider().mount(&objects(&pod, PLAIN)).await.unwrap();
    w.api.remove("pods", "ns", "app-1");
    assert!(refused(pod).await.contains("no such pod"), "a pod that has gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_cannot_borrow_the_role_of_another() {
    let w = World::local(None).await;
    // The account names another's role: its own token does not open it.
    let thief = w.api.add_pod("ns", "thief-1", "thief", &w.role("db"));
    let ask = objects(&thief, "- {objectName: /home/other/db, objectType: ssmparameter}");
    let e = w.provider().mount(&ask).await.unwrap_err();
    assert_eq!((e.step(), reason(&e)), (Step::Assume, Some(Reason::TrustDenied)), "{e}");
    // The same account name in another namespace is another account.
    let same_name = w.api.add_pod("ns", "db-1", "db", &w.role("db"));
    let e = w.provider().mount(&objects(&same_name, PLAIN)).await.unwrap_err();
    assert_eq!(reason(&e), Some(Reason::TrustDenied), "{e}");
    // Its true owner reads it, and only that.
    let owner = w.api.add_pod("other", "db-1", "db", &w.role("db"));
    let own = objects(&owner, "- {objectName: /home/other/db, objectType: ssmparameter, objectAlias: f}");
    assert_eq!(shown(&w.provider().mount(&own).await.unwrap()), ["f 0644 of another"]);
    let e = w.provider().mount(&objects(&owner, PLAIN)).await.unwrap_err();
    assert_eq!(reason(&e), Some(Reason::PermissionDenied), "{e}");
}

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_planted_value_is_seen_in_the_file_and_nowhere_else() {
    const CANARY: &str = "kanarienvogel-7f3a";
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let w = World::local(Some(dir.path())).await;
        let pod = w.app();
        w.put("/home/app/canary", &format!(r#"{{\"k\":\"{CANARY}\",\"n\":[1]}}"#)).await;
        let object = |more: &str| {
            objects(
                &pod,
                &format!("- {{objectName: /home/app/canary, objectType: ssmparameter, objectAlias: f{more}}}"),
            )
        };
        let provider = w.provider();
        let token = jwt::sign(&w.api.key, &w.api.claims(&pod, "sts.amazonaws.com")).unwrap();
        let mounted = provider.mount(&with_token(object(""), &token)).await.unwrap();
        assert!(shown(&mounted)[0].contains(CANARY));
        let mut said = format!("{mounted:?} {:?}", with_token(object(""), &token));
        for more in [
            ", objectEncoding: hex",
            ", objectEncoding: base64",
            ", jmesPath: [{path: n, objectAlias: g}]",
            ", jmesPath: [{path: 'length(n[0])', objectAlias: g}]",
            ", jmesPath: [{path: 'join(k, n)', objectAlias: g}]",
            ", objectVersion: 7",
        ] {
            let e = provider.mount(&object(more)).await.unwrap_err();
            said.push_str(&format!("{e} {e:?}"));
        }
        // A token of a stranger's is refused, with the reason.
        let stranger = SigningKey::generate(2048).unwrap();
        let forged = jwt::sign(&stranger, &w.api.claims(&pod, "sts.amazonaws.com")).unwrap();
        let e = provider.mount(&with_token(object(""), &forged)).await.unwrap_err();
        said.push_str(&format!("{e} {e:?}"));
        assert!(!said.contains(CANARY) && !said.contains(&token) && !said.contains(&forged), "{said}");
        let logged = String::from_utf8_lossy(&log.0.lock()).into_owned();
        assert!(logged.contains("TRACE"), "the log is on");
        assert!(!logged.contains(CANARY), "a value was logged");
        assert!(!logged.contains(&token) && !logged.contains(&forged), "a token was logged");
        let refused = format!("the token's key {} is not among the issuer's published keys", stranger.public().id());
        assert!(logged.contains(&refused), "the reason is logged");
    });
    let files = std::fs::read_dir(dir.path()).unwrap().map(|f| std::fs::read(f.unwrap().path()).unwrap_or_default());
    let stored: Vec<u8> = files.flatten().collect();
    assert!(!stored.is_empty() && !String::from_utf8_lossy(&stored).contains(CANARY), "the store is sealed");
}

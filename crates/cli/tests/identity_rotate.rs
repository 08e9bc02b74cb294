//! `druse identity rotate` from its first step to its last, as a person runs it: hours pass between its runs, it is killed
//! at every step and in the middle of them, and at no moment does STS refuse a token that the cluster signs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use common::{Lab, Ran, Running};
use druse_aws::endpoint::Endpoints;
use druse_aws::{Cause, Client};
use druse_identity::{SigningKey, jwt};
use druse_object::{Value, json};

const ISSUER: &str = "https://home-oidc.s3.us-west-2.amazonaws.com";
const TERRAFORM: &str = include_str!("../../terraform/tests/identity.tf.txt");
const HOUR: i64 = 3600;

/// A cluster with the key `old.key`, whose documents STS reads in the folder `site`, and the key that is to replace it.
struct Cluster {
    lab: Lab,
    _cloud: Running,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn new() -> Self {
        let lab = Lab::bare();
        lab.file("terraform/main.tf", TERRAFORM);
        for key in ["old.key", "new.key"] {
            lab.run(&mut lab.druse(&["identity", "keygen", "--out", key])).says(0, &[]);
        }
        let publish = ["identity", "publish", "--issuer", ISSUER, "--key", "old.key", "--to", "site"];
        lab.run(&mut lab.druse(&publish)).says(0, &[]);
        let (cloud, url) = lab.cloud(&["--documents", &format!("{ISSUER}=site")]);
        let http = druse_source::net::plain_client(&druse_source::NetOptions::default()).unwrap();
        let client = Client::new(http, Endpoints::all(&url), "us-west-2").retries(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { lab, _cloud: cloud, client, runtime }
    }

    /// Whether STS takes a pod's token of this key.
    fn takes(&self, key: &str) -> bool {
        let now = jiff::Timestamp::now().as_second();
        let claims = format!(
            r#"{{"iss":"{ISSUER}","aud":["sts.amazonaws.com"],"sub":"system:serviceaccount:default:app","exp":{},"iat":{now}}}"#,
            now + 600
        );
        let key = SigningKey::read(&self.lab.tree().join(key)).unwrap();
        let token = jwt::sign(&key, &json::parse(claims.as_bytes()).unwrap()).unwrap();
        let role = "arn:aws:iam::111122223333:role/app";
        let assumed = self.runtime.block_on(self.client.assume_role_with_web_identity(role, "pod", &token, None));
        if let Err(e) = &assumed {
            assert_eq!(e.cause(), Cause::InvalidIdentity, "{e}");
        }
        assumed.is_ok()
    }

    fn rotate(&self, more: &[&str]) -> Ran {
        let mut c = self.lab.druse(&["identity", "rotate", "--to", "site"]);
        self.lab.run(c.args(more))
    }

    fn state_file(&self) -> PathBuf {
        self.lab.tree().join("identity-rotation.json")
    }

    fn state(&self) -> Value {
        json::parse(&fs::read(self.state_file()).unwrap()).unwrap()
    }

    /// The steps that are done.
    fn done(&self) -> Vec<String> {
        self.state()["done"].items().iter().map(|s| s.str_at(["step"]).unwrap().to_owned()).collect()
    }

    /// How many keys are published.
    fn published(&self) -> usize {
        let set = json::parse(&fs::read(self.lab.tree().join("site/openid/v1/jwks")).unwrap()).unwrap();
        set["keys"].items().len()
    }

    /// Time passes: all that was done is so much longer ago.
    fn pass(&self, seconds: i64) {
        let mut state = self.state();
        let Some(Value::Array(done)) = state.get_mut("done") else { panic!("{state:?}") };
        for step in done {
            let at = step["at"].as_i64().unwrap();
            step.make_map().unwrap().insert("at", at - seconds);
        }
        fs::write(self.state_file(), json::to_string(&state)).unwrap();
    }

    /// Runs a step until it says what is expected, killed before at moments from the first to the last, and once more
    /// as if it had been killed after it acted and before it noted so.
    fn interrupted(&self, more: &[&str], then: impl Fn(&Self, &Ran), at_any_moment: impl Fn(&Self)) {
        let before = fs::read(self.state_file()).ok();
        let back = || match &before {
            Some(text) => fs::write(self.state_file(), text).unwrap(),
            None => drop(fs::remove_file(self.state_file())),
        };
        let begun = Instant::now();
        then(self, &self.rotate(more));
        let (takes, after) = (begun.elapsed(), fs::read(self.state_file()).unwrap());
        for part in 0..8 {
            back();
            let mut c = self.lab.druse(&["identity", "rotate", "--to", "site"]);
            let mut killed = Running::start(&self.lab, c.args(more));
            let begun = Instant::now();
            while begun.elapsed() < takes * part / 8 {
                std::thread::yield_now();
            }
            // One that has ended already is one that was not killed.
            let _ended = killed.child.kill();
            killed.child.wait().unwrap();
            at_any_moment(self);
            if let Ok(left) = fs::read(self.state_file()) {
                json::parse(&left).expect("a state is there whole or not at all");
            }
        }
        back();
        then(self, &self.rotate(more));
        at_any_moment(self);
        // What came of it is the same but for the moment it was done at.
        let steps = |text: &[u8]| json::parse(text).unwrap()["done"].items().len();
        assert_eq!(steps(&fs::read(self.state_file()).unwrap()), steps(&after));
    }
}

fn begin(control_plane: &str) -> [&str; 10] {
    [
        "--issuer",
        ISSUER,
        "--old-key",
        "old.key",
        "--new-key",
        "new.key",
        "--control-plane",
        control_plane,
        "--token-lifetime",
        "43200",
    ]
}

#[test]
fn a_key_is_replaced_step_by_step_whatever_interrupts_it() {
    let c = Cluster::new();
    assert!(c.takes("old.key") && !c.takes("new.key"));
    let old_works = |c: &Cluster| assert!(c.takes("old.key"), "the cluster signs with the old key");
    let both_work = |c: &Cluster| assert!(c.takes("old.key") && c.takes("new.key"));

    // 1 and 2: both are published, and caches have an hour.
    let waits = |c: &Cluster, ran: &Ran| {
        ran.says(0, &["wait-caches: nothing to do before"]);
        assert_eq!((c.done(), c.published()), (vec!["publish-both".to_owned()], 2));
    };
    c.interrupted(&begin("flags"), waits, old_works);
    both_work(&c);
    for early in ["accept-both", "sign-new"] {
        c.rotate(&["--done", early]).says(1, &["more seconds to wait"]);
    }
    c.rotate(&["--done", "retire"]).says(1, &["no step that a person takes"]);
    c.pass(HOUR - 60);
    waits(&c, &c.rotate(&[]));
    c.pass(60);

    // 3: the API servers accept both; what a person does is said, and said again.
    let accept = |c: &Cluster, ran: &Ran| {
        ran.says(0, &["Step 3 of 6: accept-both", "--service-account-key-file=NEW.pub", "BEGIN PUBLIC KEY"]);
        assert_eq!(c.done(), ["publish-both", "wait-caches"]);
    };
    c.interrupted(&[], accept, both_work);
    accept(&c, &c.rotate(&[]));
    c.rotate(&["--done", "sign-new"]).says(1, &["accept-both comes before sign-new"]);

    // 4: they sign with the new one.
    let sign = |c: &Cluster, ran: &Ran| {
        ran.says(0, &["Step 4 of 6: sign-new", "--service-account-signing-key-file", "new.key"]);
        assert_eq!(c.done().len(), 3);
    };
    c.interrupted(&["--done", "accept-both"], sign, both_work);
    c.rotate(&["--done", "accept-both"]).says(1, &["sign-new comes before accept-both"]);
    sign(&c, &c.rotate(&[]));

    // 5: tokens of the old key live for twelve hours more.
    let lives = |c: &Cluster, ran: &Ran| {
        ran.says(0, &["wait-tokens: nothing to do before"]);
        assert_eq!((c.done().len(), c.published()), (4, 2));
    };
    c.interrupted(&["--done", "sign-new"], lives, both_work);
    c.pass(12 * HOUR - 60);
    lives(&c, &c.rotate(&[]));
    both_work(&c);
    c.pass(60);

    // 6: the old one is taken away, and only now are its tokens refused.
    let over = |c: &Cluster, ran: &Ran| {
        ran.says(
            0,
            &["the rotation is complete", "is the only key that is published", "old key out of every kube-apiserver"],
        );
        assert_eq!((c.done().len(), c.published()), (6, 1));
    };
    c.interrupted(&[], over, |c| assert!(c.takes("new.key"), "the cluster signs with the new key"));
    assert!(!c.takes("old.key"), "a token of the retired key");
    over(&c, &c.rotate(&[]));
    c.rotate(&["--done", "sign-new"]).says(1, &["the rotation is complete"]);

    // Nothing but the keys, the documents and the state is left of all that, apart from halves of files that never got
    // their names.
    let left = c.lab.listing(&c.lab.tree());
    let named: Vec<&String> = left.iter().filter(|n| !n.ends_with(".new")).collect();
    assert_eq!(named, ["identity-rotation.json", "new.key", "old.key", "site", "terraform"]);
}

#[test]
fn talos_is_told_its_own_steps_and_the_issuers_bucket_may_go_away_meanwhile() {
    let c = Cluster::new();
    c.rotate(&begin("talos")).says(0, &["wait-caches"]);
    c.pass(HOUR);
    // Talos has no step of accepting both: it is passed.
    let sign = c.rotate(&[]);
    sign.says(0, &["Step 4 of 6: sign-new", "serviceAccount:", "service-account-issuer: https://home-oidc.s3"]);
    assert_eq!(c.done(), ["publish-both", "wait-caches", "accept-both"]);
    c.rotate(&["--done", "accept-both"]).says(1, &["sign-new comes before accept-both"]);
    c.rotate(&["--done", "sign-new"]).says(0, &["wait-tokens"]);
    c.pass(12 * HOUR);
    // The place cannot be written: nothing is noted, and the old key is still published.
    let (site, aside) = (c.lab.tree().join("site"), c.lab.path("aside"));
    fs::rename(&site, &aside).unwrap();
    fs::write(&site, "no folder").unwrap();
    c.rotate(&[]).says(1, &["site"]);
    assert_eq!(c.done().len(), 5, "the wait is over, the key is not retired");
    fs::remove_file(&site).unwrap();
    fs::rename(&aside, &site).unwrap();
    assert!(c.takes("old.key") && c.takes("new.key"));
    c.rotate(&[]).says(0, &["the rotation is complete"]);
    assert!(c.takes("new.key") && !c.takes("old.key"));
}

#[test]
fn two_runs_at_once_end_as_one() {
    let c = Cluster::new();
    c.rotate(&begin("flags")).says(0, &["wait-caches"]);
    c.pass(HOUR);
    let run = || Running::start(&c.lab, &mut c.lab.druse(&["identity", "rotate", "--to", "site"]));
    let (one, two) = (run(), run());
    for ran in [one.end(), two.end()] {
        ran.says(0, &["Step 3 of 6: accept-both"]);
    }
    assert_eq!(c.done(), ["publish-both", "wait-caches"]);
    assert!(c.takes("old.key"));
}

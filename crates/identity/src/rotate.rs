//! A key replaced without a moment in which tokens are refused.
//!
//! The only safe order: publish the new key beside the old, wait until no cache lacks it, let the API servers accept
//! both, sign with the new one, wait until the last token of the old one has expired, publish the new one alone. The
//! state is a file, so that a rotation can be left and taken up again at any step; steps are taken in order or not at
//! all.
//!
//! Talos gives its API servers exactly one key to check tokens with (`service-account-key-file` is among the arguments
//! that `extraArgs` may not change), so there the step of accepting both does not exist; what follows from that is said
//! in the instructions.

use std::path::Path;

use druse_object::{Map, Value, json};

use crate::documents::{MAX_AGE, documents};
use crate::file::write_private;
use crate::publish::{Place, publish};
use crate::{IdentityError, IssuerUrl, PublicKey};

/// One step, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Publish the new key beside the old one.
    PublishBoth,
    /// Let caches of the old key set expire.
    WaitCaches,
    /// Let the API servers accept both keys.
    AcceptBoth,
    /// Sign with the new key.
    SignNew,
    /// Let the last token of the old key expire.
    WaitTokens,
    /// Publish the new key alone.
    Retire,
}

/// All steps.
pub const STEPS: [Step; 6] =
    [Step::PublishBoth, Step::WaitCaches, Step::AcceptBoth, Step::SignNew, Step::WaitTokens, Step::Retire];

impl Step {
    /// The step's name in the state file and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PublishBoth => "publish-both",
            Self::WaitCaches => "wait-caches",
            Self::AcceptBoth => "accept-both",
            Self::SignNew => "sign-new",
            Self::WaitTokens => "wait-tokens",
            Self::Retire => "retire",
        }
    }

    /// A step by name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        STEPS.into_iter().find(|s| s.name() == name)
    }
}

/// How the API servers are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlPlane {
    /// By Talos' machine configuration.
    Talos,
    /// By the flags of kube-apiserver.
    Flags,
}

impl ControlPlane {
    fn name(self) -> &'static str {
        match self {
            Self::Talos => "talos",
            Self::Flags => "flags",
        }
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A step that is taken here.
    Do(Step),
    /// A step that a person takes on the cluster, with what to do.
    Person(Step, String),
    /// Nothing until this moment, in seconds since 1970.
    Wait(Step, i64),
    /// All is done.
    Done,
}

/// A rotation under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The issuer.
    pub issuer: IssuerUrl,
    /// The key that is replaced.
    pub old: PublicKey,
    /// The key that replaces it.
    pub new: PublicKey,
    /// Where the new private key lies.
    pub new_file: String,
    /// How the API servers are configured.
    pub control_plane: ControlPlane,
    /// For how many seconds the longest token lives.
    pub token_lifetime: i64,
    /// Steps done, with their times.
    done: Vec<(Step, i64)>,
}

impl Rotation {
    /// A rotation that has not begun.
    ///
    /// # Errors
    /// When the new key is the old one.
    pub fn begin(
        issuer: IssuerUrl,
        old: PublicKey,
        new: PublicKey,
        new_file: &Path,
        control_plane: ControlPlane,
        token_lifetime: i64,
    ) -> Result<Self, IdentityError> {
        if old.id() == new.id() {
            return Err(IdentityError::Rotation(format!("the new key is the old one ({})", old.id())));
        }
        Ok(Self {
            issuer,
            old,
            new,
            new_file: new_file.display().to_string(),
            control_plane,
            token_lifetime,
            done: Vec::new(),
        })
    }

    fn done_at(&self, step: Step) -> Option<i64> {
        self.done.iter().find(|(s, _)| *s == step).map(|(_, at)| *at)
    }

    /// Steps done, with their times.
    #[must_use]
    pub fn done(&self) -> &[(Step, i64)] {
        &self.done
    }

    /// What comes next.
    #[must_use]
    pub fn next(&self, now: i64) -> Next {
        let Some(step) = STEPS.into_iter().find(|s| self.done_at(*s).is_none()) else { return Next::Done };
        let wait = |since: Option<i64>, seconds: i64| {
            let until = since.unwrap_or(now).saturating_add(seconds);
            if now >= until { Next::Do(step) } else { Next::Wait(step, until) }
        };
        match step {
            Step::PublishBoth | Step::Retire => Next::Do(step),
            Step::WaitCaches => wait(self.done_at(Step::PublishBoth), MAX_AGE),
            Step::WaitTokens => wait(self.done_at(Step::SignNew), self.token_lifetime),
            Step::AcceptBoth if self.control_plane == ControlPlane::Talos => Next::Do(step),
            Step::AcceptBoth | Step::SignNew => Next::Person(step, self.instructions(step)),
        }
    }

    /// Notes a step as done.
    ///
    /// # Errors
    /// When another step comes first, or its time has not come.
    pub fn complete(&mut self, step: Step, now: i64) -> Result<(), IdentityError> {
        let wrong = |m: String| Err(IdentityError::Rotation(m));
        match self.next(now) {
            Next::Done => wrong("the rotation is complete".into()),
            Next::Wait(waiting, until) => wrong(format!(
                "{} has {} more seconds to wait; going on sooner would break tokens",
                waiting.name(),
                until.saturating_sub(now)
            )),
            Next::Do(next) | Next::Person(next, _) if next != step => {
                wrong(format!("{} comes before {}", next.name(), step.name()))
            }
            Next::Do(_) | Next::Person(..) => {
                self.done.push((step, now));
                Ok(())
            }
        }
    }

    /// Takes the steps that need nobody, as far as they go now, noting each in the state file before the next.
    ///
    /// # Errors
    /// When the place or the state file fails. Running it again goes on where it stopped.
    pub fn run(
        &mut self,
        place: &dyn Place,
        state: &Path,
        now: i64,
        mut report: impl FnMut(Step),
    ) -> Result<Next, IdentityError> {
        loop {
            let next = self.next(now);
            let Next::Do(step) = next else { return Ok(next) };
            match step {
                Step::PublishBoth => {
                    let all = documents(&self.issuer, &[self.new.clone(), self.old.clone()]);
                    publish(place, &all)?;
                }
                Step::Retire => {
                    publish(place, &documents(&self.issuer, std::slice::from_ref(&self.new)))?;
                }
                Step::WaitCaches | Step::AcceptBoth | Step::SignNew | Step::WaitTokens => {}
            }
            self.complete(step, now)?;
            self.save(state)?;
            report(step);
        }
    }

    /// What a person does for a step.
    #[must_use]
    pub fn instructions(&self, step: Step) -> String {
        let (file, issuer) = (&self.new_file, &self.issuer);
        match (step, self.control_plane) {
            (Step::AcceptBoth, _) => format!(
                "Let every kube-apiserver accept both keys, one server after the other: add\n  \
                 --service-account-key-file=NEW.pub\nbeside the one that is there (the flag may be given more than \
                 once), and leave --service-account-signing-key-file alone. NEW.pub holds\n{}\
                 When all of them have restarted, go on with\n  druse identity rotate --done accept-both\n",
                self.new.pem()
            ),
            (Step::SignNew, ControlPlane::Flags) => format!(
                "Let every kube-apiserver and kube-controller-manager sign with the new key, one after the other: point \
                 --service-account-signing-key-file and --service-account-private-key-file at the key in {file} \
                 (base64 of PEM; decode it with `base64 -d`).\nWhen all of them have restarted, go on with\n  \
                 druse identity rotate --done sign-new\n"
            ),
            (Step::SignNew, ControlPlane::Talos) => format!(
                "Set the new key in the machine configuration of every control plane node, one node after the other:\n\n\
                 cluster:\n  serviceAccount:\n    key: # the content of {file}\n  apiServer:\n    extraArgs:\n      \
                 service-account-issuer: {issuer}\n      api-audiences: \
                 https://kubernetes.default.svc.cluster.local,sts.amazonaws.com\n\n  \
                 talosctl --nodes NODE patch machineconfig --patch @service-account.yaml\n\n\
                 AWS accepts tokens of both keys all the while. The Kubernetes API does not: Talos gives an API server \
                 one key to check with, so from a node's restart on it refuses pods' tokens of the old key. Restart what \
                 talks to the API soon after (kubectl rollout restart), or wait until the kubelets have renewed the \
                 tokens (within 48 minutes for the usual lifetime of an hour).\nWhen all nodes have the new key, go on \
                 with\n  druse identity rotate --done sign-new\n"
            ),
            (Step::Retire, ControlPlane::Flags) => "Take the old key out of every kube-apiserver's \
                 --service-account-key-file, and delete it: until then the API takes tokens that it signs, whoever has it\n"
                .to_owned(),
            _ => String::new(),
        }
    }

    /// Writes the state.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let mut m = Map::new();
        m.insert("issuer", self.issuer.as_str());
        m.insert("controlPlane", self.control_plane.name());
        m.insert("tokenLifetimeSeconds", self.token_lifetime);
        m.insert("oldKey", self.old.pem());
        m.insert("newKey", self.new.pem());
        m.insert("newKeyFile", self.new_file.as_str());
        let done = self.done.iter().map(|(step, at)| {
            let mut m = Map::new();
            m.insert("step", step.name());
            m.insert("at", *at);
            Value::Map(m)
        });
        m.insert("done", done.collect::<Value>());
        let mut text = json::to_string_pretty(&Value::Map(m), "  ");
        text.push('\n');
        write_private(path, text.as_bytes()).map_err(|e| IdentityError::file(path, e))
    }

    /// Reads the state.
    ///
    /// # Errors
    /// When the file cannot be read, or is no state of a rotation.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let text = std::fs::read(path).map_err(|e| IdentityError::file(path, e))?;
        let wrong = |cause: &str| IdentityError::file(path, format!("this is no state of a rotation: {cause}"));
        let value = json::parse(&text).map_err(|e| wrong(&e.to_string()))?;
        let field = |name: &str| value.str_at([name]).ok_or_else(|| wrong(&format!("{name} is missing")));
        let control_plane = match field("controlPlane")? {
            "talos" => ControlPlane::Talos,
            "flags" => ControlPlane::Flags,
            other => return Err(wrong(&format!("controlPlane {other:?}"))),
        };
        let lifetime = value.get("tokenLifetimeSeconds").and_then(Value::as_i64);
        let mut done = Vec::new();
        for (expected, entry) in STEPS.into_iter().zip(value.get("done").map(Value::items).unwrap_or_default()) {
            let at = entry.get("at").and_then(Value::as_i64).ok_or_else(|| wrong("a step without a time"))?;
            if entry.str_at(["step"]) != Some(expected.name()) {
                return Err(wrong("the steps are out of order"));
            }
            done.push((expected, at));
        }
        Ok(Self {
            issuer: IssuerUrl::parse(field("issuer")?)?,
            old: PublicKey::parse(field("oldKey")?, "oldKey")?,
            new: PublicKey::parse(field("newKey")?, "newKey")?,
            new_file: field("newKeyFile")?.to_string(),
            control_plane,
            token_lifetime: lifetime.ok_or_else(|| wrong("tokenLifetimeSeconds is missing"))?,
            done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use crate::documents::read_jwks;
    use crate::publish::Folder;

    fn rotation(control_plane: ControlPlane) -> Rotation {
        let old = SigningKey::parse(include_str!("../tests/data/rsa.pem"), "test").unwrap().public().clone();
        let new = SigningKey::generate(2048).unwrap().public().clone();
        let issuer = IssuerUrl::parse("https://oidc.example").unwrap();
        Rotation::begin(issuer, old, new, Path::new("new.key"), control_plane, 86400).unwrap()
    }

    fn published(folder: &Folder) -> Vec<String> {
        let text = folder.get(crate::documents::JWKS_PATH).unwrap().unwrap();
        read_jwks(&text, "set").unwrap().into_iter().map(|k| k.id).collect()
    }

    #[test]
    fn a_rotation_goes_through_all_steps_and_can_be_left_at_each() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, state) = (Folder(dir.path().join("site")), dir.path().join("rotate.json"));
        let mut r = rotation(ControlPlane::Flags);
        let (old, new) = (r.old.id().to_string(), r.new.id().to_string());
        let resumed = || Rotation::load(&state).unwrap();

        assert_eq!(r.run(&folder, &state, 1000, |_| {}).unwrap(), Next::Wait(Step::WaitCaches, 1000 + MAX_AGE));
        assert_eq!(published(&folder), [new.clone(), old.clone()]);
        let mut r = resumed();
        assert!(r.complete(Step::SignNew, 1001).is_err(), "signing before the caches know the key breaks tokens");
        let next = r.run(&folder, &state, 5000, |_| {}).unwrap();
        assert!(matches!(&next, Next::Person(Step::AcceptBoth, text) if text.contains("PUBLIC KEY")));
        let mut r = resumed();
        r.complete(Step::AcceptBoth, 5100).unwrap();
        assert!(matches!(r.run(&folder, &state, 5100, |_| {}).unwrap(), Next::Person(Step::SignNew, _)));
        r.complete(Step::SignNew, 6000).unwrap();
        r.save(&state).unwrap();
        let mut r = resumed();
        assert_eq!(r.run(&folder, &state, 6001, |_| {}).unwrap(), Next::Wait(Step::WaitTokens, 92400));
        assert!(r.complete(Step::Retire, 6002).is_err(), "tokens of the old key still live");
        assert_eq!(published(&folder), [new.clone(), old]);
        assert_eq!(resumed().run(&folder, &state, 92400, |_| {}).unwrap(), Next::Done);
        assert_eq!(published(&folder), [new]);
    }

    #[test]
    fn talos_has_no_step_of_accepting_both_and_is_told_what_follows() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, state) = (Folder(dir.path().join("site")), dir.path().join("rotate.json"));
        let mut r = rotation(ControlPlane::Talos);
        r.run(&folder, &state, 0, |_| {}).unwrap();
        let Next::Person(Step::SignNew, text) = r.run(&folder, &state, MAX_AGE, |_| {}).unwrap() else { panic!() };
        for needed in
            ["cluster:\n  serviceAccount:\n    key:", "service-account-issuer: https://oidc.example", "restart"]
        {
            assert!(text.contains(needed), "{text}");
        }
    }

    #[test]
    fn a_damaged_state_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("rotate.json");
        let mut r = rotation(ControlPlane::Talos);
        r.complete(Step::PublishBoth, 1).unwrap();
        r.save(&state).unwrap();
        assert_eq!(Rotation::load(&state).unwrap(), r);
        let text = std::fs::read_to_string(&state).unwrap();
        for (from, to) in [("publish-both", "retire"), ("talos", "x"), ("\"oldKey\"", "\"old\""), ("{", "")] {
            std::fs::write(&state, text.replace(from, to)).unwrap();
            assert!(Rotation::load(&state).is_err(), "{from}");
        }
    }
}

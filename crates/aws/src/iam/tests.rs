use super::*;
use druse_object::json;
use proptest::prelude::*;

fn policy(text: &str) -> Policy {
    Policy::parse(&json::parse(text.as_bytes()).unwrap()).unwrap()
}

const ARN: &str = "arn:aws:ssm:us-west-2:111122223333:parameter/app/db";

fn read(policy_text: &str) -> Decision {
    evaluate(&[&policy(policy_text)], &Request::new("ssm:GetParameters", ARN))
}

fn statement(action: &str, resource: &str, rest: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{action},{resource}{rest}}}]}}"#)
}

#[test]
fn actions_and_resources_are_patterns() {
    let allowed = |action: &str, resource: &str| {
        read(&statement(&format!("\"Action\":{action}"), &format!("\"Resource\":{resource}"), ""))
            == Decision::Allowed(0, 0)
    };
    let all = r#""*""#;
    for action in [
        r#""ssm:GetParameters""#,
        r#""ssm:GetParameter*""#,
        r#""SSM:getparameters""#,
        r#""ssm:Get?arameters""#,
        r#"["x:y","*"]"#,
    ] {
        assert!(allowed(action, all), "{action}");
    }
    for action in [r#""ssm:GetParameter""#, r#""ssm:""#, r#""secretsmanager:*""#, "[]"] {
        assert!(!allowed(action, all), "{action}");
    }
    let action = r#""ssm:GetParameters""#;
    for arn in [ARN, "arn:aws:ssm:*:111122223333:parameter/app/*", "arn:aws:ssm:us-west-2:*:parameter/app/d?", "arn:*"]
    {
        assert!(allowed(action, &format!("\"{arn}\"")), "{arn}");
    }
    let wrong = [
        "arn:aws:ssm:us-west-2:111122223333:parameter/app",
        "arn:aws:ssm:us-west-2:111122223333:parameter//app/db",
        "arn:aws:ssm:us-west-2:111122223333:parameter/App/db",
        "arn:aws:ssm:us-east-1:111122223333:parameter/app/db",
    ];
    for arn in wrong {
        assert!(!allowed(action, &format!("\"{arn}\"")), "{arn}");
    }
}

#[test]
fn not_action_and_not_resource_mean_everything_else() {
    let all = r#""Resource":"*""#;
    assert_eq!(read(&statement(r#""NotAction":"iam:*""#, all, "")), Decision::Allowed(0, 0));
    assert_eq!(read(&statement(r#""NotAction":"ssm:*""#, all, "")), Decision::NotAllowed);
    let action = r#""Action":"ssm:*""#;
    assert_eq!(
        read(&statement(action, r#""NotResource":"arn:aws:ssm:*:*:parameter/other/*""#, "")),
        Decision::Allowed(0, 0)
    );
    assert_eq!(
        read(&statement(action, r#""NotResource":"arn:aws:ssm:*:*:parameter/app/*""#, "")),
        Decision::NotAllowed
    );
}

#[test]
fn an_explicit_deny_wins() {
    let allow = policy(&statement(r#""Action":"*""#, r#""Resource":"*""#, ""));
    let deny = policy(r#"{"Statement":{"Effect":"Deny","Action":"ssm:*","Resource":"*/app/*"}}"#);
    let request = Request::new("ssm:GetParameters", ARN);
    assert_eq!(evaluate(&[&allow, &deny], &request), Decision::Denied(1, 0));
    assert_eq!(evaluate(&[&deny, &allow], &request), Decision::Denied(0, 0));
    assert_eq!(evaluate(&[], &request), Decision::NotAllowed);
}

#[test]
fn an_unknown_condition_denies() {
    let odd = r#","Condition":{"StringSounds":{"aws:x":"y"}}"#;
    let allow = statement(r#""Action":"*""#, r#""Resource":"*""#, odd);
    assert_eq!(read(&allow), Decision::NotAllowed, "it never lets an Allow apply");
    let both = format!(
        r#"{{"Statement":[{{"Effect":"Allow","Action":"*","Resource":"*"}},{{"Effect":"Deny","Action":"*","Resource":"*"{odd}}}]}}"#
    );
    assert_eq!(read(&both), Decision::Denied(0, 1), "and always lets a Deny apply");
}

#[test]
fn conditions_compare_as_documented() {
    let holds = |condition: &str| {
        let p = policy(&statement(r#""Action":"*""#, r#""Resource":"*""#, &format!(r#","Condition":{condition}"#)));
        let request = Request::new("ssm:GetParameters", ARN)
            .with("idp:sub", "system:serviceaccount:ns:app")
            .with("idp:aud", "sts.amazonaws.com")
            .with("aws:SecureTransport", "false")
            .with("n", "5")
            .with("ip", "203.0.113.7")
            .with("ip6", "2001:db8::1")
            .with("t", "2026-01-02T00:00:00Z")
            .with("arn", ARN);
        evaluate(&[&p], &request) == Decision::Allowed(0, 0)
    };
    let yes = [
        r#"{"StringEquals":{"idp:sub":"system:serviceaccount:ns:app"}}"#,
        r#"{"StringEquals":{"IDP:Sub":["x","system:serviceaccount:ns:app"]}}"#,
        r#"{"StringEqualsIgnoreCase":{"idp:aud":"STS.amazonaws.com"}}"#,
        r#"{"StringLike":{"idp:sub":"system:serviceaccount:*:app"}}"#,
        r#"{"StringNotEquals":{"idp:sub":"x"}}"#,
        r#"{"StringNotLike":{"idp:sub":"*:x"}}"#,
        r#"{"StringNotEquals":{"missing":"x"}}"#,
        r#"{"StringEqualsIfExists":{"missing":"x"}}"#,
        r#"{"Null":{"missing":"true","idp:sub":"false"}}"#,
        r#"{"Bool":{"aws:SecureTransport":"false"}}"#,
        r#"{"NumericLessThan":{"n":"6"},"NumericGreaterThanEquals":{"n":"5"}}"#,
        r#"{"DateGreaterThan":{"t":"2026-01-01T00:00:00Z"}}"#,
        r#"{"ArnLike":{"arn":"arn:aws:ssm:*:*:parameter/app/*"}}"#,
        r#"{"ForAnyValue:StringEquals":{"idp:aud":["a","sts.amazonaws.com"]}}"#,
        r#"{"ForAllValues:StringEquals":{"missing":"x"}}"#,
        r#"{"IpAddress":{"ip":"203.0.113.0/24","ip6":"2001:db8::/32"}}"#,
        r#"{"IpAddress":{"ip":["10.0.0.0/8","203.0.113.7"]}}"#,
        r#"{"IpAddress":{"ip":"0.0.0.0/0"}}"#,
        r#"{"NotIpAddress":{"ip":"203.0.113.8/32"}}"#,
        r#"{"BinaryEquals":{"n":"5"}}"#,
    ];
    for condition in yes {
        assert!(holds(condition), "{condition}");
    }
    let no = [
        r#"{"StringEquals":{"idp:sub":"system:serviceaccount:*:app"}}"#,
        r#"{"StringEquals":{"idp:sub":"system:serviceaccount:ns:app","idp:aud":"x"}}"#,
        r#"{"StringEquals":{"missing":"x"}}"#,
        r#"{"StringNotEquals":{"idp:sub":["x","system:serviceaccount:ns:app"]}}"#,
        r#"{"Null":{"idp:sub":"true"}}"#,
        r#"{"NumericLessThan":{"n":"5"}}"#,
        r#"{"ArnLike":{"arn":"arn:aws:*"}}"#,
        r#"{"ForAnyValue:StringEquals":{"missing":"x"}}"#,
        r#"{"ForSome:StringEquals":{"idp:aud":"sts.amazonaws.com"}}"#,
        r#"{"IpAddress":{"ip":"203.0.113.8/29"}}"#,
        r#"{"IpAddress":{"ip":"203.0.113.7/33"}}"#,
        r#"{"IpAddress":{"ip":"::/0"}}"#,
        r#"{"IpAddress":{"ip":"here"}}"#,
        r#"{"IpAddress":{"n":"0.0.0.0/0"}}"#,
        r#"{"NotIpAddress":{"ip":"203.0.0.0/16"}}"#,
    ];
    for condition in no {
        assert!(!holds(condition), "{condition}");
    }
}

const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/oidc.example";

fn trust(condition: &str) -> Policy {
    policy(&format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Federated":"{PROVIDER}"}},
        "Action":"sts:AssumeRoleWithWebIdentity","Condition":{condition}}}]}}"#
    ))
}

fn assume(policy: &Policy, subject: &str) -> Decision {
    let request = Request::new("sts:AssumeRoleWithWebIdentity", "")
        .with("oidc.example:sub", subject)
        .with("oidc.example:aud", "sts.amazonaws.com");
    evaluate_trust(policy, PROVIDER, &request)
}

#[test]
fn a_trust_policy_names_provider_subject_and_audience() {
    let p = trust(
        r#"{"StringEquals":{"oidc.example:sub":"system:serviceaccount:ns:app","oidc.example:aud":"sts.amazonaws.com"}}"#,
    );
    assert_eq!(assume(&p, "system:serviceaccount:ns:app"), Decision::Allowed(0, 0));
    assert_eq!(assume(&p, "system:serviceaccount:ns:app2"), Decision::NotAllowed);
    assert_eq!(assume(&p, "system:serviceaccount:other:app"), Decision::NotAllowed);
    let request =
        Request::new("sts:AssumeRoleWithWebIdentity", "").with("oidc.example:sub", "system:serviceaccount:ns:app");
    let elsewhere = "arn:aws:iam::111122223333:oidc-provider/evil.example";
    assert_eq!(evaluate_trust(&p, elsewhere, &request), Decision::NotAllowed);
}

#[test]
fn what_is_not_known_is_neither_allowed_nor_denied() {
    let hole = format!("arn:aws:ssm:us-west-2:{HOLE}:parameter/app/db");
    let p = statement(r#""Action":"ssm:GetParameters""#, &format!("\"Resource\":\"{hole}\""), "");
    assert!(matches!(read(&p), Decision::Unknown(_)));
    let other = statement(
        r#""Action":"ssm:GetParameters""#,
        &format!("\"Resource\":\"arn:aws:ssm:us-west-2:{HOLE}:parameter/x\""),
        "",
    );
    assert_eq!(read(&other), Decision::NotAllowed, "whatever the hole is, this is another parameter");
    let p = policy(&statement(r#""Action":"*""#, r#""Resource":"*""#, r#","Condition":{"IpAddressX":{"a":"b"}}"#));
    let open = Request { open: true, ..Request::new("ssm:GetParameters", ARN) };
    assert_eq!(evaluate(&[&p], &open), Decision::NotAllowed);
    let p = policy(&statement(
        r#""Action":"*""#,
        r#""Resource":"*""#,
        r#","Condition":{"StringEquals":{"aws:RequestedRegion":"x"}}"#,
    ));
    assert!(matches!(evaluate(&[&p], &open), Decision::Unknown(_)));
}

#[test]
fn a_document_with_a_misspelt_element_is_refused() {
    for text in [
        "[]",
        "{}",
        r#"{"Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Actions":"*","Resource":"*"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Action":"a","NotAction":"b","Resource":"*"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Action":7,"Resource":"*"}]}"#,
        r#"{"Version":"2020-01-01","Statement":[]}"#,
        r#"{"Statement":[{"Effect":"Allow","Action":"*","Principal":{"Nobody":"x"}}]}"#,
    ] {
        assert!(Policy::parse(&json::parse(text.as_bytes()).unwrap()).is_err(), "{text}");
    }
}

/// Matches by trying everything.
fn naive(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
        Some(('?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
        Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
    }
}

proptest! {
    #[test]
    fn patterns_match_as_trying_everything_does(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        prop_assert_eq!(glob(&pattern, &text, true), Truth::from(naive(&chars(&pattern), &chars(&text))));
    }
    #[test]
    fn a_hole_never_decides_against_what_some_filling_matches(
        before in "[ab*]{0,4}", after in "[ab*]{0,4}", filling in "[ab]{0,3}", text in "[ab]{0,8}",
    ) {
        let filled = format!("{before}{filling}{after}");
        let open = format!("{before}{HOLE}{after}");
        if glob(&filled, &text, true) == Truth::Yes {
            prop_assert_ne!(glob(&open, &text, true), Truth::No);
        }
    }
    #[test]
    fn any_document_is_read_without_panicking(text in r#"[\{\}\[\]":,a-zA-Z* ]{0,80}"#) {
        if let Ok(v) = json::parse(text.as_bytes()) {
            let _ = Policy::parse(&v);
        }
    }
}

#[test]
fn policy_variables_are_not_known_and_older_policies_have_none() {
    let own = r#""Resource":"arn:aws:ssm:*:*:parameter/${aws:PrincipalTag/team}/db""#;
    let text = statement(r#""Action":"ssm:GetParameters""#, own, "");
    assert!(matches!(read(&text), Decision::Unknown(_)));
    assert_eq!(read(&text.replace("2012", "2008")), Decision::NotAllowed, "the text stands for itself");
    assert_eq!(read(&text.replace("/db", "/other")), Decision::NotAllowed, "whatever it stands for");
    let compared = r#","Condition":{"StringEquals":{"k":"a-${aws:username}"}}"#;
    let text = statement(r#""Action":"*""#, r#""Resource":"*""#, compared);
    let asked = |v: &str| evaluate(&[&policy(&text)], &Request::new("a:b", "r").with("k", v));
    assert!(matches!(asked("a-x"), Decision::Unknown(_)));
    assert_eq!(asked("b-x"), Decision::NotAllowed);
}

#[test]
fn a_key_that_a_request_surely_lacks_is_not_left_open() {
    let p =
        policy(&statement(r#""Action":"*""#, r#""Resource":"*""#, r#","Condition":{"StringEquals":{"i:sub":"s"}}"#));
    let asked = |request: Request| evaluate(&[&p], &Request { open: true, ..request });
    assert!(matches!(asked(Request::new("a:b", "r")), Decision::Unknown(_)));
    assert_eq!(asked(Request::new("a:b", "r").without("I:sub")), Decision::NotAllowed);
    assert_eq!(asked(Request::new("a:b", "r").with("i:sub", "s").without("i:sub")), Decision::Allowed(0, 0));
}

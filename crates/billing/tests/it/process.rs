//! The program itself: what it says when it cannot start, and what is left after it was killed.

use crate::support::{ADMIN, GATEWAY, SECRET, World, demo_catalog};
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn serve(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-billing"));
    std::fs::write(dir.join("catalog.yaml"), demo_catalog()).unwrap();
    command
        .arg("serve")
        .env_clear()
        .env("BILLING_PORT", "0")
        .env("DATABASE_URL", format!("sqlite://{}", dir.join("billing.db").display()))
        .env("CATALOG", dir.join("catalog.yaml"))
        .env("STRIPE_WEBHOOK_SECRET", SECRET)
        .env("ADMIN_TOKEN", ADMIN)
        .env("GATEWAY_TOKEN", GATEWAY)
        .stderr(Stdio::piped());
    command
}

/// The same, in a shell that does something first.
#[cfg(unix)]
fn serve_after(first: &str, dir: &Path) -> Command {
    let plain = serve(dir);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}; exec \"$0\" \"$@\"")]);
    command.arg(plain.get_program()).args(plain.get_args());
    command.env_clear().stderr(Stdio::piped());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Starts it and waits until it says where it listens.
pub(crate) fn started(dir: &Path) -> (Child, std::net::SocketAddr) {
    started_by(&mut serve(dir))
}

fn started_by(command: &mut Command) -> (Child, std::net::SocketAddr) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        (line["fields"]["message"] == "ready")
            .then(|| line["fields"]["address"].as_str().unwrap().parse().unwrap())
    });
    // Whatever else it says has to go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address.unwrap())
}

pub(crate) fn refused(command: &mut Command) -> String {
    let output = command.stdout(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, address) = started(dir.path());
    let world = World::elsewhere(address);
    world.admin("POST", "accounts", &json!({"id": "acme"})).await.ok(201);
    world.admin("POST", "grants", &json!({"account": "acme", "credits": 7})).await.ok(201);
    let refusal = refused(&mut serve(dir.path()));
    assert!(refusal.contains("another tollgate-billing serves"), "{refusal}");
    child.kill().unwrap();
    child.wait().unwrap();
    let (mut child, address) = started(dir.path());
    let world = World::elsewhere(address);
    assert_eq!(world.balance("acme").await, 7_000_000);
    // A gentle end comes soon and is a success, even while somebody watches.
    let watching =
        tokio::spawn(async move { world.gateway_get("watch?after=0").await.ok(200)["after"].clone() });
    let after = watching.await.unwrap();
    let world = World::elsewhere(address);
    let watching =
        tokio::spawn(async move { world.gateway_get(&format!("watch?after={after}")).await.status });
    let world = World::elsewhere(address);
    while !world.call("GET", "/metrics", &[], "").await.text.contains("{call=\"watch\"} 2") {
        tokio::task::yield_now().await;
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert_eq!(watching.await.unwrap(), 200);
}

/// That its files may not grow is what it sees of a full disk; `prlimit` says so to a process that runs. It is deaf to the signal
/// that comes with that.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn on_a_full_disk_it_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, address) = started_by(&mut serve_after("trap '' XFSZ", dir.path()));
    let world = World::elsewhere(address);
    let limit = |most: &str| {
        let (pid, most) = (format!("--pid={}", child.id()), format!("--fsize={most}:unlimited"));
        assert!(Command::new("prlimit").args([pid, most]).status().unwrap().success());
    };
    assert_eq!(world.call("GET", "/readyz", &[], "").await.status, 200);
    limit("1");
    for _ in 0..3 {
        assert_eq!(world.call("GET", "/readyz", &[], "").await.status, 503);
    }
    assert_eq!(world.call("GET", "/healthz", &[], "").await.status, 200);
    limit("unlimited");
    assert_eq!(world.call("GET", "/readyz", &[], "").await.status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn every_complaint_comes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path());
    let catalog = demo_catalog().replace("cost: 5", "cost: 0").replace("limit: 3", "limit: none");
    std::fs::write(dir.path().join("catalog.yaml"), catalog).unwrap();
    let told =
        refused(command.env("LIVEMODE", "prod").env("ADMIN_TOKEN", "short").env("LEASE_TTL_MS", "soon"));
    for named in
        ["LIVEMODE", "ADMIN_TOKEN", "LEASE_TTL_MS", "endpoints.image.cost", "tiers.free.windows.daily.limit"]
    {
        assert!(told.contains(named), "{named} is missing in {told}");
    }
    assert!(!told.contains("short:"), "{told}");
}

/// Whatever the umask allows; and a file that is there keeps the mode that its operator gave it.
#[cfg(unix)]
#[test]
fn only_its_owner_may_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    for (given, expected) in [(None, 0o600), (Some(0o640), 0o640)] {
        let dir = tempfile::tempdir().unwrap();
        if let Some(mode) = given {
            let file = std::fs::File::create(dir.path().join("billing.db")).unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let (mut child, _) = started_by(&mut serve_after("umask 0", dir.path()));
        let mode =
            |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        let modes = ["billing.db", "billing.db-wal", "billing.db-shm"].map(mode);
        assert_eq!((modes, mode("billing.db.lock")), ([expected; 3], 0o600));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// T10: what cannot be kept is not taken.
#[test]
fn without_its_database_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("text.db"), "this is no database, and nothing is written over it")
        .unwrap();
    for (name, says) in [("missing/billing.db", "missing/billing.db"), ("text.db", "database")] {
        let path = dir.path().join(name);
        let told = refused(serve(dir.path()).env("DATABASE_URL", format!("sqlite://{}", path.display())));
        assert!(told.contains(says) && !told.contains("\"ready\""), "{told}");
    }
    let kept = std::fs::read_to_string(dir.path().join("text.db")).unwrap();
    assert!(kept.starts_with("this is no database"));
}

#[test]
fn a_token_for_development_names_its_subject() {
    use base64::Engine as _;
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/demo/private.pem");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate-billing"));
    let output = command.args(["dev-token", "--sub", "alice", "--key"]).arg(key).stdout(Stdio::piped());
    let mut token = String::new();
    output.spawn().unwrap().stdout.unwrap().read_to_string(&mut token).unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["sub"], &claims["iss"]), (&json!("alice"), &json!("tollgate-demo")));
}

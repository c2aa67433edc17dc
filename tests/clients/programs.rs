//! Runs other people's clients: small programs around their SDKs, which are told what to do as JSON and answer with what the SDK gave.

use serde_json::{Value, json};
use stage::harness::Stage;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One SDK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sdk {
    /// The program around it, in this folder.
    pub(crate) program: &'static str,
    /// Whose API it speaks.
    pub(crate) maker: Maker,
    /// The classes of its errors for 402 and 503; not each SDK has one of its own for them.
    pub(crate) payment_required: &'static str,
    pub(crate) unavailable: &'static str,
}

/// Whose API an SDK speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    OpenAi,
    Anthropic,
}

/// All that are tested.
pub(crate) const SDKS: [Sdk; 4] = [
    sdk("openai_client.py", Maker::OpenAi, "APIStatusError", "InternalServerError"),
    sdk("openai_client.cjs", Maker::OpenAi, "APIError", "InternalServerError"),
    sdk("anthropic_client.py", Maker::Anthropic, "PaymentRequiredError", "ServiceUnavailableError"),
    sdk("anthropic_client.cjs", Maker::Anthropic, "PaymentRequiredError", "ServiceUnavailableError"),
];

const fn sdk(
    program: &'static str,
    maker: Maker,
    payment_required: &'static str,
    unavailable: &'static str,
) -> Sdk {
    Sdk { program, maker, payment_required, unavailable }
}

impl Sdk {
    /// An account of its own with credits, and an API key of it.
    pub(crate) async fn customer(self, stage: &Stage, credits: u32) -> (String, String) {
        let id = self.program.replace('.', "_");
        stage.account(&id, credits).await;
        let made = stage.admin_post("/admin/v1/api-keys", &json!({ "account": id })).await;
        (id, made["key"].as_str().unwrap().to_owned())
    }

    /// Makes these calls at `url`, one after the other, and returns an outcome for each.
    pub(crate) async fn run(self, url: &str, steps: &[Value]) -> Vec<Value> {
        let todo = json!({ "url": url, "steps": steps }).to_string();
        let told = tokio::task::spawn_blocking(move || run(self.program, &[], &todo)).await.unwrap();
        let outcomes: Vec<Value> =
            serde_json::from_str(&told).unwrap_or_else(|error| panic!("{}: {error}: {told}", self.program));
        assert_eq!(outcomes.len(), steps.len(), "{}: {told}", self.program);
        outcomes
    }
}

/// Runs a program of this folder to its end; returns what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child =
        command(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{program} failed: {}", done.status);
    String::from_utf8(done.stdout).unwrap()
}

/// A program of this folder, with Python or Node as its name says.
pub(crate) fn command(program: &str) -> Command {
    let tools = stage::tools::root().unwrap().join(".tools/clients");
    let interpreter = tools.join(if program.ends_with(".py") { "bin/python" } else { "bin/node" });
    assert!(interpreter.exists(), "there is no {}: run `make testdeps`", interpreter.display());
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients"));
    let mut command = Command::new(interpreter);
    // What the machine's owner keeps in such variables is no part of the test.
    for name in [
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "HTTP_PROXY",
        "http_proxy",
    ] {
        command.env_remove(name);
    }
    command.arg(folder.join(program)).env("NODE_PATH", tools.join("node/node_modules"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "127.0.0.1");
    command
}

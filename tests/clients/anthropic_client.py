"""Does what its standard input lists, with Anthropic's Python SDK, and tells as JSON what the SDK gave or raised."""

import json
import sys

import anthropic


def outcome(api, step):
    more = {"max_tokens": 100, **step.get("more", {})}
    if step.get("stream"):
        more["stream"] = True
    try:
        raw = api.with_options(api_key=step["key"]).messages.with_raw_response.create(
            model="scripted",
            messages=[{"role": "user", "content": "hello"}],
            extra_headers=step.get("headers", {}),
            **more,
        )
        answer = raw.parse()
        # What the answer does not say stays unsaid: a field that is null is not one that is not there.
        if step.get("stream"):
            answer = [event.model_dump(mode="json", exclude_unset=True) for event in answer]
        else:
            answer = answer.model_dump(mode="json", exclude_unset=True)
        return {"answer": answer, "headers": dict(raw.headers)}
    except anthropic.APIStatusError as error:
        inner = error.body.get("error", {}) if isinstance(error.body, dict) else {}
        return {
            "raised": type(error).__name__,
            "status": error.status_code,
            "message": error.message,
            "type": inner.get("type"),
            "code": inner.get("code"),
            "buy_url": error.response.json().get("buy_url"),
            "headers": dict(error.response.headers),
        }
    except Exception as error:  # A broken connection: whatever the SDK makes of it.
        return {"raised": type(error).__name__, "message": str(error)}


todo = json.load(sys.stdin)
client = anthropic.Anthropic(base_url=todo["url"], api_key="unset", timeout=20)
json.dump([outcome(client, step) for step in todo["steps"]], sys.stdout)

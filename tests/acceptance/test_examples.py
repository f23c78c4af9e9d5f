"""Every example of examples/reactors, run for real: `reactor up`, its event, what comes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import bus
from bus.client import LocalClient
from bus.config import master_config, minion_config
from bus.keys import KeyStore
from tests.system import EVENT_SECONDS, ROOT, System, running, wait_until

EXAMPLES = ROOT / "examples" / "reactors"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
MODULES = EXAMPLES / "05-custom-module" / "files"

A_KEY = b"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
"""The public key in ZeroMQ's own documentation of Z85."""

SYSTEMCTL = """\
#!/bin/sh
case "$1" in
    is-system-running) echo running ;;
    is-active) test -e "$FAKE_SYSTEM/running" ;;
    restart) echo "$2" >> "$FAKE_SYSTEM/running" ;;
esac
"""


def example(name: str) -> tuple[str, ...]:
    """Return the options of `reactor up` for one example."""
    return ("--rules", str(EXAMPLES / name))


def its_event(name: str) -> tuple[str, dict[str, Any]]:
    """Return tag and data of an example's event."""
    event = json.loads((EXAMPLES / name / "event.json").read_text())
    assert set(event) == {"tag", "data"}
    return event["tag"], event["data"]


def fake_services(folder: Path) -> dict[str, str]:
    """Return an environment whose `systemctl` keeps its state in ``folder``."""
    program = folder / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "FAKE_SYSTEM": str(folder)}


def test_hello(tmp_path: Path) -> None:
    """The start of the minion, a job, its return, an event; and again when it is fired."""
    with running(tmp_path, *example("01-hello")) as system:
        first = system.expect("hello/answered", minion="web1", answer="Hello, web1!")
        assert first.data["_cause"]["rule"] == "hello_answered"
        seq = system.fire(*its_event("01-hello"))
        again = system.expect("hello/answered", after=seq, minion="web1")
        assert again.payload["jid"] != first.payload["jid"]


def test_restart_a_service(tmp_path: Path) -> None:
    """A service that a job finds stopped is restarted; one that runs is left alone."""
    environ = fake_services(tmp_path)
    with running(tmp_path, *example("02-restart-a-service"), **environ) as system:
        seq = system.fire(*its_event("02-restart-a-service"))
        system.expect("ops/service/restarted", after=seq, service="nginx", worked=True)
        assert (tmp_path / "running").read_text() == "nginx.service\n"

        with LocalClient(mopts=master_config(system.config)) as client:
            assert client.cmd("web1", "service.status", ["nginx"]) == {"web1": True}
            (tmp_path / "running").unlink()
            assert client.cmd("web1", "service.status", ["nginx"]) == {"web1": False}
        wait_until((tmp_path / "running").exists)
        assert (tmp_path / "running").read_text() == "nginx.service\n"


def test_deployment_pipeline(tmp_path: Path) -> None:
    """Each stage starts the next, up to the file; a stage that fails is an event too."""
    tag, data = its_event("03-deployment-pipeline")
    target = tmp_path / "deployed.txt"
    with running(tmp_path, *example("03-deployment-pipeline")) as system:
        seq = system.fire(tag, {**data, "file": str(target)})
        built = system.expect("deploy/built", after=seq, minion="web1", version="1.10")
        system.expect("deploy/done", after=built.seq, what="deployed shop 1.10")
        assert target.read_text() == "deployed shop 1.10\n"

        seq = system.fire(tag, {**data, "file": str(tmp_path / "missing" / "deployed.txt")})
        failed = system.expect("deploy/failed", after=seq, minion="web1")
        assert "No such file" in failed.payload["why"]


def test_webhook_to_job(tmp_path: Path) -> None:
    """What a stranger sends stays data, whatever it tries; what is malformed does nothing."""
    tag, data = its_event("04-webhook-to-job")
    with running(tmp_path, *example("04-webhook-to-job")) as system:
        seq = system.fire(tag, data)
        version = data["post"]["version"]
        system.expect("webhook/deployed", after=seq, minion="web1", version=version)

        for post in (None, [], {"minions": "web1", "version": "1"}, {"minions": ["*"]}):
            seq = system.fire(tag, {**data, "post": post})
        system.fire(tag, {**data, "post": {"minions": ["*"], "version": "1"}})
        seq = system.fire(tag, {**data, "post": {"minions": ["web1"], "version": "last"}})
        system.expect("webhook/deployed", after=seq, version="last")
        deployed = [event for event in system.events() if event.tag == "webhook/deployed"]
        assert [event.payload["version"] for event in deployed] == [version, "last"]


def test_custom_module(tmp_path: Path) -> None:
    """The module comes to the minion, fires up to the master, and is thanked on its own bus."""
    arguments = (*example("05-custom-module"), "--file-roots", str(MODULES))
    with running(tmp_path, *arguments) as system:
        with bus.connect("minion", minion_config(system.config)) as minion:
            listening = minion.listen("myco/thanks")
            seq = system.fire(*its_event("05-custom-module"))
            thanks = listening.next(EVENT_SECONDS)
        assert thanks is not None
        assert thanks.payload == {"for": "The something is finished!"}
        finished = system.expect("myco/my_custom_module/finished", after=seq, finished=True)
        assert finished.data["id"] == "web1"
        system.expect("myco/thanked", after=seq, minion="web1")


def test_accept_keys(tmp_path: Path) -> None:
    """A key whose name fits is accepted; others wait for a person."""
    with running(tmp_path, *example("06-accept-keys")) as system:
        keys = KeyStore(master_config(system.config)["pki_dir"])
        for ident in ("web-17", "db-1", "web-17x"):
            keys.submit(ident, A_KEY)
        tag, data = its_event("06-accept-keys")
        for ident in ("db-1", "web-17x", "web-*", "web-17\n", "web-17"):
            seq = system.fire(tag, {**data, "id": ident})
        wait_until(lambda: "web-17" in keys.list()["minions"])
        system.expect("reactor/reaction/accept/done", after=seq)
        assert keys.list()["minions_pre"] == ["db-1", "web-17x"]


def test_alert_on_errors(tmp_path: Path) -> None:
    """Failures of either side become one alert with the same shape, and the alert is acted on."""
    tag, data = its_event("07-alert-on-errors")
    with running(tmp_path, *example("07-alert-on-errors")) as system:
        seq = system.fire(tag, data)
        system.expect("ops/alert", after=seq, about=tag, details=data, **{"from": "the master"})
        system.expect("reactor/reaction/page_somebody/done", after=seq)
        with LocalClient(mopts=master_config(system.config)) as client:
            client.cmd("web1", "event.send", [tag, data])
        system.expect("ops/alert", after=seq, about=tag, details=data, **{"from": "web1"})


def test_watch_a_heartbeat(tmp_path: Path) -> None:
    """Three failures are one alert, a fourth is none, and silence is another."""
    tag, data = its_event("08-watch-a-heartbeat")
    with running(tmp_path, *example("08-watch-a-heartbeat")) as system:
        seq = system.fire(tag, data)
        for _ in range(3):
            system.fire(tag, data)
        system.expect("alert/failing", after=seq, host="web1", times=3)
        system.expect("alert/silent", after=seq, host="web1")
        alerts = [event.tag for event in system.events() if event.tag.startswith("alert/")]
        assert alerts.count("alert/failing") == 1


def test_all_together(tmp_path: Path) -> None:
    """With all rules loaded at once, as `make run` does, none disturbs another."""
    arguments = ("--rules", str(EXAMPLES), "--file-roots", str(MODULES))
    target = str(tmp_path / "deployed.txt")
    with running(tmp_path, *arguments, **fake_services(tmp_path)) as system:
        system.expect("hello/answered", minion="web1")
        for folder in FOLDERS:
            tag, data = its_event(folder.name)
            system.fire(tag, {**data, "file": target} if "file" in data else data)
        for tag in (
            "ops/service/restarted",
            "deploy/done",
            "webhook/deployed",
            "myco/thanked",
            "reactor/reaction/accept/done",
            "reactor/reaction/page_somebody/done",
        ):
            system.expect(tag)
        wait_until(lambda: _count(system, "hello/answered") == 2)
        tags = [event.tag for event in system.events()]
        assert [tag for tag in tags if tag.endswith(("/failed", "/dead"))] == ["myco/backup/failed"]
        assert not {"reactor/loop", "reactor/rules/error"} & set(tags)


def _count(system: System, tag: str) -> int:
    return sum(event.tag == tag for event in system.events())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_is_complete(folder: Path) -> None:
    """Each example has rules, an event and a README, and the list of examples names it."""
    assert list(folder.glob("*.yaml"))
    assert its_event(folder.name)[0]
    assert (folder / "README.md").read_text().startswith(f"# {folder.name[:2]}: ")
    assert f"[{folder.name}]({folder.name})" in (EXAMPLES / "README.md").read_text()

"""The page at ``/`` in a real browser, Debian's chromium without a window, beside a real system."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

import bus
from bus.config import master_config
from bus.keys import Keypair, KeyStore
from tests.support import need, wait_for
from tests.web import answer, ask, new_token, serving, url_of

RULES = """
greet:
  description: Greets whoever comes by.
  on: page/greet
  when:
    - data.who != "nobody"
    - data.n | default(0) < 100
  do:
    - event: page/greeted
      data: {who: "{{ data.who }}"}
    - local: test.ping
      tgt: web1
limited:
  on: page/limited
  when: data.used > 90
  throttle: {once_within: 10m}
  do: [{event: page/cleaned}]
breaks:
  on: page/break
  do:
    - local: test.ping
      tgt: "{{ data.not.there }}"
rests:
  enabled: false
  on: page/rest
  do: [{event: page/rested}]
echoes:
  on: page/echo
  do:
    - local: test.echo
      tgt: web1
      args: ["{{ data.text }}"]
"""

BROKEN = "bad:\n  on: page/x\n  wehn: data.x\n  do: [{event: page/y}]\n"

EVIL = "<img src=x onerror=\"document.documentElement.dataset.hit='1'\">"

MARKUP = EVIL.partition('"')[0]
"""As much of it as is the same within JSON."""

PASSWORD = "planted-page-password"

SECONDS = 30
"""For what a browser is to show: the machine may be busy."""


@pytest.fixture(scope="module")
def browser():
    """One browser for all; where there is none, the reason is said."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    need(chromium, "no chromium on this host")
    expect.set_options(timeout=SECONDS * 1000)
    # Its sandbox does not work for root, and the page is ours.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield made
        made.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A running system with rules, one of them in a file that cannot be read."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "rules.yaml").write_text(RULES)
    (folder / "broken.yaml").write_text(BROKEN)
    paths = ("--rules", str(folder / "rules.yaml"), "--rules", str(folder / "broken.yaml"))
    with serving(folder, *paths) as made:
        yield made


@contextmanager
def visiting(browser, url, token=None, **options):
    """Open the page, logged in with ``token``; nothing may go wrong in it that it does not say."""
    context = browser.new_context(
        ignore_https_errors=True, viewport={"width": 1280, "height": 800}, **options
    )
    context.set_default_timeout(SECONDS * 1000)
    if token:
        context.add_cookies([{"name": "session_id", "value": token, "url": url, "secure": True}])
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Security" in said.text else None)
    try:
        page.goto(url)
        if token:
            expect(page.locator("#state")).to_have_text("live")
        yield page
        assert wrong == []
    finally:
        context.close()


@pytest.fixture
def page(browser, url, token):
    """The page, of somebody who may do everything."""
    with visiting(browser, url, token) as opened:
        yield opened


def row(page, text):
    """Return the rows of the list with this text."""
    return page.locator("main tr.pick", has_text=text)


def tagged(page, tag):
    """Return the rows of events with exactly this tag."""
    return page.locator("main tr.pick").filter(has=page.get_by_text(tag, exact=True))


def go(page, view):
    """Show a view by its tab."""
    page.locator("#tabs a", has_text=view).click()
    expect(page.locator("#tabs a[aria-current]")).to_contain_text(view)


def narrow(page, tags, text=""):
    """Filter the events."""
    page.get_by_label("Tags").fill(tags)
    page.get_by_label("Text in tag or data").fill(text)
    page.get_by_role("button", name="Filter", exact=True).click()


class TestLogin:
    """Nothing is shown to strangers."""

    def test_a_token(self, browser, url, token):
        """A wrong one is refused in one line, the right one lets in, and out again."""
        with visiting(browser, url) as page:
            page.get_by_label("Token").fill("not a token")
            page.keyboard.press("Enter")
            expect(page.locator("main [role=alert]")).to_have_text(
                re.compile("this token is not known, or has ended")
            )
            page.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
            expect(page.locator("#state")).to_have_text("live")
            expect(page.locator("#who")).to_have_text("tests")
            page.reload()
            expect(page.locator("#state")).to_have_text("live")
            page.get_by_role("button", name="Log out").click()
            expect(page.get_by_label("Token")).to_be_visible()
            assert page.locator("tr.pick").count() == 0
            assert page.context.cookies() == []

    def test_a_password(self, system, browser, url):
        """The user's name stands above; who may not change anything is offered nothing."""
        made = subprocess.run(
            [sys.executable, "-m", "reactor", "user", "set", "watcher", "--read", "*",
             "--config", str(system.config)],
            input=f"{PASSWORD}\n", text=True, env=system.environ, capture_output=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        with visiting(browser, url) as page:
            page.get_by_label("User").fill("watcher")
            page.get_by_label("Password").fill(PASSWORD)
            page.keyboard.press("Enter")
            expect(page.locator("#who")).to_have_text("watcher")
            go(page, "Minions")
            expect(row(page, "web1")).to_contain_text("connected")
            assert page.get_by_role("button", name="Reject").count() == 0
            go(page, "Rules")
            expect(row(page, "greet")).to_be_visible()
            assert page.get_by_role("button", name="Read the files again").count() == 0

    def test_a_token_that_ends(self, system, browser, url):
        """It is said, and asked for another."""
        ending = new_token(system, "ending", "--all")
        with visiting(browser, url, ending) as page:
            system.run("token", "revoke", "ending")
            expect(page.locator("main [role=alert]")).to_have_text(re.compile("has ended"))
            expect(page.get_by_label("Token")).to_be_visible()

    def test_what_a_token_does_not_allow_is_said_in_one_line(self, system, browser, url):
        """By the words of the API."""
        narrow_token = new_token(system, "narrow", "--read", "page/*")
        with visiting(browser, url, narrow_token) as page:
            go(page, "Rules")
            expect(page.locator("main .problem:visible")).to_have_text(
                "this token may not read rules: it needs to read reactor/rules/reloaded"
            )


class TestEvents:
    """As they happen."""

    def test_filters_and_a_pause(self, system, page):
        """By tags, by text; what came during a pause is there after it."""
        system.fire("page/plain", {"n": 1})
        expect(tagged(page, "page/plain").first).to_be_visible()
        narrow(page, "page/f* page/g")
        expect(tagged(page, "page/plain")).to_have_count(0)
        system.fire("page/other", {})
        system.fire("page/fine", {"word": "Quince"})
        expect(tagged(page, "page/fine")).to_have_count(1)
        expect(tagged(page, "page/other")).to_have_count(0)
        narrow(page, "page/f*", "quince")
        system.fire("page/fresh", {"word": "medlar"})
        system.fire("page/fruit", {"word": "quince"})
        expect(tagged(page, "page/fruit")).to_have_count(1)
        expect(tagged(page, "page/fine")).to_have_count(1)
        expect(tagged(page, "page/fresh")).to_have_count(0)
        page.get_by_role("button", name="Pause").click()
        system.fire("page/frozen", {"word": "quince"})
        expect(page.locator("#rate")).to_have_text(re.compile("Paused. 1 came meanwhile"))
        expect(tagged(page, "page/frozen")).to_have_count(0)
        page.get_by_role("button", name="Go on").click()
        expect(tagged(page, "page/frozen")).to_have_count(1)

    def test_an_event_whole_with_its_chain(self, system, page):
        """What it caused, down to a job's return; and from there back to the cause."""
        seq = system.fire("page/greet", {"who": "chain", "deep": {"list": [1, {"x": "y"}]}})
        narrow(page, "page/*")
        page.locator(f'main tr.pick[data-key="#events/{seq}"]').click()
        pane = page.locator("#pane")
        expect(pane.locator("pre").first).to_contain_text('"x": "y"')
        expect(pane.locator(".chain")).to_contain_text("page/greeted")
        expect(pane.locator(".chain")).to_contain_text("/ret/web1")
        expect(pane.locator(".verdict")).to_contain_text("greet")
        pane.locator(".chain li", has_text="page/greeted").locator("a").click()
        expect(pane.locator(".tag")).to_have_text("page/greeted")
        expect(pane.locator(".facts")).to_contain_text(f"rule greet on event {seq}")
        expect(pane.locator(".chain li").first).to_contain_text("page/greet")
        page.go_back()
        expect(pane.locator(".tag")).to_have_text("page/greet")
        page.reload()
        expect(pane.locator(".tag")).to_have_text("page/greet")
        page.keyboard.press("Escape")
        expect(pane).to_be_hidden()

    def test_an_event_that_is_not_there(self, page, url):
        """An address that somebody sent: what the API says, in one line."""
        page.goto(f"{url}#events/999999999")
        expect(page.locator("#pane .problem")).to_have_text(
            "there is no event 999999999 in the journal"
        )

    def test_dry_run_and_replay(self, system, page, url):
        """Dry, it says what would be done, and does nothing; in earnest, it asks first."""
        seq = system.fire("page/greet", {"who": "again", "n": 7})
        effect = system.expect("page/greeted", after=seq, who="again")
        page.goto(f"{url}#events/{seq}")
        page.get_by_role("button", name="Dry run").click()
        tried = page.locator("#tried")
        expect(tried.locator(".mark")).to_have_text("would run")
        expect(tried).to_contain_text('data.who != "nobody" is true')
        expect(tried).to_contain_text("data.n is 7")
        expect(tried).to_contain_text("page/greeted")
        page.get_by_role("button", name="Replay").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Replay").click()
        page.locator("dialog").get_by_role("button", name="Replay").click()
        expect(page.locator("#toast")).to_contain_text("1 reaction begun.")
        found = system.expect("page/greeted", after=effect.seq, who="again")
        again = [
            event.seq
            for event in system.events()
            if event.tag == "page/greeted" and event.data.get("who") == "again"
        ]
        assert again == [effect.seq, found.seq]


class TestViews:
    """What there is beside events."""

    def test_rules(self, system, page):
        """Counters, state, last error, source; a file that cannot be read; its traces."""
        seq = system.fire("page/break", {})
        system.expect("reactor/reaction/breaks/failed", after=seq)
        go(page, "Rules")
        expect(page.locator("main .problem:visible")).to_contain_text("broken.yaml")
        expect(page.locator("main .problem:visible")).to_contain_text("did you mean 'when'?")
        expect(row(page, "rests")).to_contain_text("off")
        expect(row(page, "breaks")).to_contain_text("data.not is undefined")
        page.get_by_label("Filter Rules").fill("undefined")
        expect(page.locator("main tr.pick")).to_have_count(1)
        row(page, "breaks").click()
        pane = page.locator("#pane")
        expect(pane).to_contain_text("rules.yaml:18")
        expect(pane.locator(".problem")).to_contain_text("data.not is undefined")
        expect(pane.locator("tr.pick").first).to_contain_text("failed")
        page.get_by_role("button", name="Read the files again").click()
        expect(page.locator("#toast")).to_contain_text("The files are read again.")

    def test_a_rule_is_switched_off_and_on(self, browser, system, page, url):
        """By mouse and by keyboard; who did it is said, and nobody else sees a switch."""
        go(page, "Rules")
        greet = row(page, "greet")
        switch = greet.get_by_role("switch", name="Rule greet")
        expect(switch).to_have_attribute("aria-checked", "true")
        expect(row(page, "rests").get_by_role("switch")).to_have_count(0)
        try:
            switch.click()
            expect(switch).to_have_attribute("aria-checked", "false")
            expect(page.locator("#toast")).to_contain_text("greet is off.")
            expect(greet).to_contain_text("switched off by ")
            seq = system.fire("page/greet", {"who": "off"})
            page.goto(f"{url}#events/{seq}")
            expect(page.locator("#pane")).to_contain_text("switched off by ")
            page.keyboard.press("Escape")
            go(page, "Rules")
            greet.locator("a").focus()
            page.keyboard.press("Enter")
            inner = page.locator("#pane").get_by_role("switch")
            expect(page.locator("#pane .facts")).to_contain_text("switched off by ")
            for _ in range(2):  # Close, then the switch
                page.keyboard.press("Tab")
            expect(inner).to_be_focused()
            page.keyboard.press(" ")
            expect(inner).to_have_attribute("aria-checked", "true")
            expect(inner).to_be_focused()
            expect(switch).to_have_attribute("aria-checked", "true")
        finally:
            system.run("rules", "enable", "greet")
        reader = new_token(system, "only-reads", "--read", "*")
        with visiting(browser, url, reader) as other:
            go(other, "Rules")
            expect(row(other, "greet")).to_contain_text("on")
            expect(other.get_by_role("switch")).to_have_count(0)

    def test_a_trace_step_by_step(self, system, page):
        """Each condition with its value, each policy, each call with what it gave."""
        seq = system.fire("page/limited", {"used": 91})
        system.expect("reactor/reaction/limited/done", after=seq)
        system.fire("page/limited", {"used": 95})
        go(page, "Traces")
        row(page, "limited").filter(has_text="throttle").click()
        steps = page.locator("#pane .steps li")
        expect(steps).to_have_count(2)
        expect(steps.nth(0)).to_contain_text("data.used > 90 is true")
        expect(steps.nth(0)).to_contain_text("data.used is 95")
        expect(steps.nth(1)).to_contain_text("throttle stopped it")
        row(page, "limited").filter(has_text="done").click()
        expect(steps.last).to_contain_text("event page/cleaned")
        expect(steps.last).to_contain_text("gave event")
        steps.last.locator("a").click()
        expect(page.locator("#pane .tag")).to_have_text("page/cleaned")

    def test_jobs_with_their_returns(self, system, page):
        """Those that failed are marked."""
        system.run("cmd", "web1", "test.echo", "from the page's test")
        system.run("cmd", "web1", "test.nosuchfunction", code=None)
        go(page, "Jobs")
        row(page, "test.echo").first.click()
        pane = page.locator("#pane")
        expect(pane).to_contain_text("1 of 1")
        expect(pane.locator(".return")).to_contain_text("from the page's test")
        row(page, "test.nosuchfunction").click()
        expect(pane.locator(".return h4")).to_contain_text("failed")

    def test_keys_are_accepted_and_rejected(self, system, page, tmp_path):
        """Who waits stands first, and on the tab; cutting somebody off is asked twice."""
        store = KeyStore(master_config(system.config)["pki_dir"])
        store.submit("fresh1", Keypair.create(tmp_path, "minion").public, auto_accept=False)
        go(page, "Minions")
        expect(page.locator("#tabs a", has_text="Minions").locator(".count")).to_have_text("1")
        expect(page.locator("main tr.pick").first).to_contain_text("fresh1")
        fresh = row(page, "fresh1")
        fresh.get_by_role("button", name="Accept").click()
        expect(fresh).to_contain_text("accepted")
        assert "fresh1" in store.list()["minions"]
        fresh.get_by_role("button", name="Reject").click()
        page.locator("dialog").get_by_role("button", name="Cancel").click()
        assert "fresh1" in KeyStore(store_dir(system)).list()["minions"]
        fresh.get_by_role("button", name="Reject").click()
        page.locator("dialog").get_by_role("button", name="Reject").click()
        expect(fresh).to_contain_text("rejected")
        assert "fresh1" in KeyStore(store_dir(system)).list()["minions_rejected"]
        fresh.get_by_role("button", name="Delete").click()
        page.locator("dialog").get_by_role("button", name="Delete").click()
        expect(fresh).to_have_count(0)

    def test_dead_letters_are_retried_and_dropped(self, system, page):
        """A retry counts; what is dropped is gone."""
        seq = system.fire("page/break", {"n": "dead"})
        system.expect("reactor/reaction/breaks/failed", after=seq)
        go(page, "Dead letters")
        letter = page.locator("main tr.pick").filter(has=page.get_by_text(str(seq), exact=True))
        expect(letter.locator("td").nth(3)).to_have_text("1")
        letter.get_by_role("button", name="Retry").click()
        expect(page.locator("#toast")).to_contain_text("1 begun again.")
        expect(letter.locator("td").nth(3)).to_have_text("2")
        letter.get_by_role("button", name="Drop").click()
        page.locator("dialog").get_by_role("button", name="Drop").click()
        expect(letter).to_have_count(0)

    def test_numbers(self, system, page):
        """Counters of all parts, and plots that are drawn."""
        go(page, "Numbers")
        expect(page.locator(".tile", has_text="Connected")).to_have_text("Connected1")
        expect(page.locator("#rates canvas")).to_be_visible()
        expect(page.locator("#latencies canvas")).to_be_visible()
        seq = system.fire("page/greet", {"who": "counted"})
        system.expect("page/greeted", after=seq, who="counted")
        # A line is drawn once there are two looks at the counters: pixels that are not empty.
        drawn = """() => { const c = document.querySelector("#rates canvas");
            return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some(Boolean); }"""
        page.wait_for_function(drawn)


def store_dir(system):
    return master_config(system.config)["pki_dir"]


class TestHowItLooks:
    """For eyes and for hands."""

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_light_and_dark(self, browser, url, token, scheme):
        """As the system has it, or as somebody wants it; text can be read on its ground."""
        with visiting(browser, url, token, color_scheme=scheme) as page:
            for _ in range(2):
                is_dark = _luminance(_colour(page, "body", "backgroundColor")) < 0.2
                assert is_dark is (scheme == "dark")
                go(page, "Rules")
                expect(row(page, "greet")).to_be_visible()
                for selector in ("body", "th", "tr.pick a", ".mark.good", "main .problem", ".dim"):
                    ratio = _contrast(page, selector)
                    assert ratio >= 4.5, f"{selector} in {scheme}: {ratio}"
                scheme = "dark" if scheme == "light" else "light"
                page.keyboard.press("t")
                page.reload()  # it is kept
                expect(page.locator("#state")).to_have_text("live")

    def test_by_keyboard_alone(self, system, page):
        """From view to view, row to row, in and out; focus is seen, and comes back."""
        seq = system.fire("page/keys", {"n": 1})
        expect(tagged(page, "page/keys").first).to_be_visible()
        keyboard = page.keyboard
        keyboard.press("?")
        expect(page.locator("dialog")).to_contain_text("next and previous row")
        keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        keyboard.press("/")
        keyboard.type("page/keys")
        keyboard.press("Enter")
        expect(page.locator("main tr.pick")).to_have_count(1)
        keyboard.press("Escape")
        keyboard.press("j")
        focused = page.locator(":focus")
        expect(focused).to_have_text(str(seq))
        assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
        keyboard.press("Enter")
        expect(page.locator("#pane .tag")).to_have_text("page/keys")
        keyboard.press("d")
        expect(page.locator("#tried")).to_contain_text("No rule matches.")
        keyboard.press("Escape")
        expect(page.locator("#pane")).to_be_hidden()
        expect(focused).to_have_text(str(seq))
        keyboard.press("2")
        expect(row(page, "greet")).to_be_visible()
        keyboard.press("j")
        expect(focused).to_have_text("greet")
        for key, name in (("ArrowDown", "limited"), ("k", "greet"), ("End", "rests")):
            keyboard.press(key)
            expect(focused).to_have_text(name)
        # One row is in the order of Tab, not five.
        assert page.locator("main tr.pick a[tabindex='0']").count() == 1
        keyboard.press("1")
        keyboard.press("p")
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
        keyboard.press("p")
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")

    def test_a_narrow_window(self, browser, url, token):
        """Nothing is wider than it; the pane takes all of it."""
        with visiting(browser, url, token) as page:
            page.set_viewport_size({"width": 600, "height": 800})
            for view in ("Events", "Rules", "Jobs", "Minions", "Dead letters", "Numbers"):
                go(page, view)
                assert page.evaluate("document.documentElement.scrollWidth") <= 600
            go(page, "Minions")
            row(page, "web1").click()
            assert page.locator("#pane").bounding_box()["width"] == 600


def _colour(page, selector, name):
    return page.locator(selector).first.evaluate(f"e => getComputedStyle(e).{name}")


def _luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(page, selector):
    """Return the ratio of WCAG between an element's text and what is behind it."""
    ground = page.locator(selector).first.evaluate(
        """e => { for (; e; e = e.parentElement) {
            const found = getComputedStyle(e).backgroundColor;
            if (found !== "rgba(0, 0, 0, 0)") return found; } }"""
    )
    one, other = sorted((_luminance(_colour(page, selector, "color")), _luminance(ground)))
    return (other + 0.05) / (one + 0.05)


class TestStrangers:
    """What comes from the network is text, and never anything else."""

    def test_an_event_of_markup(self, system, page, url):
        """In its tag, its keys and values; in lists, panes, chains, traces and jobs."""
        seq = system.fire(f"page/{EVIL}", {EVIL: EVIL, "list": [EVIL], "n": 1})
        system.fire("page/greet", {"who": EVIL})
        echo = system.fire("page/echo", {"text": EVIL})
        system.expect("reactor/reaction/echoes/done", after=echo)
        broken = system.fire("page/break", {"x": EVIL})
        expect(row(page, EVIL).first).to_be_visible()
        page.goto(f"{url}#events/{seq}")
        expect(page.locator("#pane .tag")).to_have_text(f"page/{EVIL}")
        expect(page.locator("#pane pre").first).to_contain_text("onerror")
        page.goto(f"{url}#events/{echo}")
        expect(page.locator("#pane .verdict")).to_contain_text(MARKUP)
        expect(page.locator("#pane .chain")).to_contain_text("/ret/web1")
        page.get_by_role("button", name="Dry run").click()
        expect(page.locator("#tried")).to_contain_text(MARKUP)
        go(page, "Traces")
        row(page, "echoes").first.click()
        expect(page.locator("#pane .steps")).to_contain_text(MARKUP)
        go(page, "Jobs")
        row(page, "test.echo").first.click()
        expect(page.locator("#pane .return")).to_contain_text(EVIL)
        page.goto(f"{url}#events/{broken}")
        expect(page.locator("#pane .tag")).to_have_text("page/break")
        page.goto(f"{url}#{EVIL}/{EVIL}")
        expect(page.locator("#pane .problem")).to_be_visible()
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.dataset.hit") is None

    def test_no_inline_script_runs(self, browser, url, token):
        """The policy is sent, and in force."""
        status, headers, body = ask(url, "/", headers={"Accept": "text/html"})
        assert status == 200
        assert b"<script>" not in body
        policy = headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        context = browser.new_context(ignore_https_errors=True)
        try:
            page = context.new_page()
            page.goto(url)
            add = """() => { const s = document.createElement("script");
                s.textContent = "document.documentElement.dataset.hit = '1'"; document.body.append(s);
                return document.documentElement.dataset.hit ?? null; }"""
            assert page.evaluate(add) is None
        finally:
            context.close()

    def test_its_files(self, url):
        """To anybody, since no data is in them; nothing but them, and once if they are kept."""
        status, headers, _ = ask(url, "/page/app.js")
        assert status == 200
        assert headers["Content-Type"].startswith("text/javascript")
        kept = {"If-None-Match": headers["ETag"]}
        assert ask(url, "/page/app.js", headers=kept)[::2] == (304, b"")
        assert ask(url, "/page/views/events.js")[0] == 200
        assert ask(url, "/page/vendor/uPlot.LICENSE")[0] == 404
        for path in ("../app.py", "..%2fapp.py", "views/../../app.py", "nothing.js", "views", ""):
            status, said = answer(url, f"/page/{path}")
            assert status == 404, path
            assert "return" in said
        status, said = answer(url, "/", headers={"Accept": "application/json"})
        assert said["return"] == "Welcome"
        assert "runner" in said["clients"]


def _flood(opts, sent, stop):
    with bus.connect("master", opts) as events:
        while not stop.wait(0.05):
            data = {"n": sent.value, "text": "x" * 150}
            sent.value += events.fire_events([("flood/x", data)] * 500)


@contextmanager
def flooding(system):
    """Fire events, some thousand a second if the host can; yield how many there were so far."""
    make = multiprocessing.get_context("spawn")
    sent, stop = make.Value("q", 0), make.Event()
    process = make.Process(target=_flood, args=(master_config(system.config), sent, stop))
    process.start()
    try:
        yield lambda: sent.value
    finally:
        stop.set()
        process.join(SECONDS)
        process.kill()
        process.close()


def test_a_flood(system, page):
    """Thousands of events: the page says that it samples, and still does what one wants of it."""
    aloud = page.locator("#aloud")
    with flooding(system) as sent:
        expect(aloud).to_have_text(re.compile("this is a sample"))
        expect(page.locator("#rate")).to_have_text(re.compile(r"showing \d+ of [\d,]+, sampled"))
        wait_for(lambda: sent() > 5_000, "a flood", seconds=SECONDS)
        assert page.locator("main tr.pick").count() <= 300
        before = sent()
        # A row that runs away cannot be hit: the list stands still under a hand.
        row(page, "flood/x").nth(3).click()
        expect(page.locator("#pane .tag")).to_have_text("flood/x")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#rate")).to_have_text(re.compile("Paused"))
        wait_for(lambda: sent() > before, "more of it", seconds=SECONDS)
        page.get_by_role("button", name="Go on").click()
        go(page, "Rules")
        expect(row(page, "greet")).to_be_visible()
        go(page, "Events")
    narrow(page, "page/*")
    system.fire("page/after", {})
    expect(tagged(page, "page/after")).to_have_count(1)
    expect(aloud).to_have_text("")


def test_a_lost_connection(browser, tmp_path):
    """It is said, and what happened meanwhile is shown once the server is there again."""
    with (
        serving(tmp_path) as system,
        visiting(browser, url_of(system), new_token(system, "lost", "--all")) as page,
    ):
        narrow(page, "page/*")
        system.fire("page/before", {})
        expect(tagged(page, "page/before")).to_have_count(1)
        log = (system.config / "log" / "up.log").read_text()
        os.kill(int(log.rpartition("started http as process ")[2].split()[0]), signal.SIGKILL)
        expect(page.locator("#lost")).to_contain_text("Connection lost")
        system.fire("page/meanwhile", {})
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#state")).to_have_text("live")
        expect(tagged(page, "page/meanwhile")).to_have_count(1)
        expect(tagged(page, "page/before")).to_have_count(1)

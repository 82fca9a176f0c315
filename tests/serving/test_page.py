"""The page, by a real browser against a server that answers with a real Predictor."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from tests.inference.tiny import CLASSES

from resight.inference import Predictor
from resight.inference.writers import csv_text, unescape_cell
from resight.runs import Run

from .page_server import HOSTILE, PDF, Seen, base_url, file, page_runs, seen, strange, window

__all__ = ["base_url", "page_runs", "seen", "window"]

SHOWN = ('<img src=x onerror="alert(1)">', "=cmd|'/c calc'!A0", 'a\\u202etxt.exe\\n"b"')  # HOSTILE, to be read
TRANSFER = """([kind, files]) => {
  const data = new DataTransfer();
  for (const { name, type, content } of files)
    data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type }));
  const init = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { ...init, clipboardData: data })
    : new DragEvent(kind, { ...init, dataTransfer: data });
  document.body.dispatchEvent(event);
}"""


def transfer(seen: Seen, kind: str, *files: dict[str, Any]) -> None:
    plain = [
        {"name": f["name"], "type": f["mimeType"], "content": base64.b64encode(f["buffer"]).decode()} for f in files
    ]
    seen.page.evaluate(TRANSFER, [kind, plain])


def choose(seen: Seen, model: str) -> None:
    seen.page.select_option("#model", model)
    seen.page.wait_for_selector(f"#card-title:text-is('{model}')", state="attached")


def decoded(image: Any) -> list[int]:
    return list(image.evaluate("async (i) => { await i.decode(); return [i.naturalWidth, i.naturalHeight]; }"))


def test_the_empty_page_says_what_the_model_knows(seen: Seen) -> None:
    assert "tells 3 classes apart" in seen.page.inner_text("#knows-text")
    assert seen.page.locator("#knows-classes li").all_inner_texts() == list(CLASSES)
    assert "sent to this server only" in seen.page.inner_text("#intake")


def test_a_dropped_picture_is_answered_as_the_predictor_does(seen: Seen, page_runs: dict[str, Run]) -> None:
    red = file("red")
    transfer(seen, "dragenter", red)
    assert seen.page.is_visible("#dropping")
    transfer(seen, "drop", red)
    seen.settled()
    (expected,) = Predictor(page_runs["colours"], threads=1).predict([red["buffer"]], top=3)
    assert seen.card().locator(".answer bdi").inner_text() == expected.label == "red"
    assert seen.card().locator(".answer .share").inner_text() == f"{100 * (expected.probability or 0):.1f}\u00a0%"
    assert seen.card().locator(".row .name").all_inner_texts() == [name for name, _ in expected.top]
    assert decoded(seen.card().locator("img.own")) == [24, 24]
    assert not seen.page.is_visible("#dropping")
    assert "red" in seen.page.inner_text("#said")


def test_a_pasted_picture_is_answered(seen: Seen) -> None:
    transfer(seen, "paste", file("green"))
    seen.settled()
    assert seen.card().locator(".answer bdi").inner_text() == "green"


def test_the_heat_map_of_the_answer_and_of_another_class(seen: Seen) -> None:
    seen.give(file("red"))
    card = seen.card()
    card.locator(".look").click()
    assert min(decoded(card.locator("img.heat"))) >= 24
    assert "red" in card.locator(".legend").inner_text()
    second = card.locator(".row").nth(1)
    second.click()
    seen.page.wait_for_selector(f".legend:has-text('{second.locator('.name').inner_text()}') .scale")
    assert second.get_attribute("aria-pressed") == "true"
    assert [name for name in seen.requests if "/explain?" in name and name.endswith("class=red")]
    card.locator(".look").click()
    assert card.locator("img.heat").count() == 0
    assert card.locator(".row[aria-pressed=true]").count() == 0


def test_unknown_is_said_with_its_guess(seen: Seen) -> None:
    seen.give(strange())
    assert seen.card().locator(".answer").inner_text() == "unknown"
    assert re.match(
        r"Unlike anything it was trained on; its guess would be “\w+” \(", seen.card().locator(".note").inner_text()
    )
    assert seen.card().get_attribute("data-state") == "unknown"


def test_any_number_of_labels(seen: Seen) -> None:
    choose(seen, "labels")
    seen.give(file("blue"))
    assert "blue" in seen.card().locator(".tags bdi").all_inner_texts()


def test_errors_are_on_their_own_cards(seen: Seen) -> None:
    broken = {**file("red", name="broken.png"), "buffer": file("red")["buffer"][:60]}
    seen.give(PDF, file("blue"), broken)
    assert "PDF" in seen.card(0).inner_text()
    assert seen.card(0).locator(".answer").inner_text() == "Not a picture that can be read here"
    assert seen.card(1).locator(".answer bdi").inner_text() == "blue"
    assert seen.card(2).locator(".answer").inner_text() == "This picture is damaged"
    assert seen.page.locator(".card .again").count() == 0


def test_a_file_above_the_limit_is_not_sent(seen: Seen) -> None:
    def lowered(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "limits": {"bytes": 2048}})

    seen.page.route("**/card", lowered)
    seen.page.reload()
    seen.give({**file("red"), "buffer": file("red")["buffer"] + bytes(3000)})
    assert seen.card().locator(".answer").inner_text() == "Too large"
    assert "takes up to 2 KiB" in seen.card().inner_text()
    assert not [url for url in seen.requests if "/predict?" in url]


def test_twenty_pictures_their_summary_and_the_filter(seen: Seen) -> None:
    seen.give(*[file(CLASSES[k % 3], k) for k in range(20)], PDF)
    assert seen.page.locator(".card").count() == 21
    assert [seen.card(k).locator(".answer bdi").inner_text() for k in range(20)] == [CLASSES[k % 3] for k in range(20)]
    chips = [" ".join(text.split()) for text in seen.page.locator(".chip").all_inner_texts()]
    assert chips == ["all 21", "blue 7", "green 7", "red 6", "error 1"]
    assert "21 pictures: 7 blue, 7 green, 6 red, 1 error" in seen.page.inner_text("#said")
    seen.page.click(".chip:has-text('red')")
    assert seen.page.locator(".card:visible").count() == 6
    seen.page.click("#clear")
    assert seen.page.locator(".card").count() == 0
    seen.page.wait_for_selector("#knows", state="visible")  # painted with the next frame


def test_a_few_are_asked_at_a_time(seen: Seen) -> None:
    running, most = 0, 0

    def began(request: Any) -> None:
        nonlocal running, most
        if "/predict" in request.url:
            running += 1
            most = max(most, running)

    def ended(request: Any) -> None:
        nonlocal running
        running -= "/predict" in request.url

    seen.page.on("request", began)
    seen.page.on("requestfinished", ended)
    seen.give(*[file("red", k) for k in range(16)])
    assert 1 <= most <= 4


def test_a_busy_server_is_asked_again_when_it_said(seen: Seen) -> None:
    """Retry-After is kept to: 429 once, then the answer comes by itself."""
    times = seen.page.evaluate_handle("[]")
    refusals = [{"status": 429, "headers": {"Retry-After": "1"}, "body": json.dumps({"error": "the queue is full"})}]

    def route(route: Any) -> None:
        route.fulfill(**refusals.pop()) if refusals else route.continue_()

    seen.page.route("**/predict?*", route)
    seen.page.evaluate(
        "(times) => { const f = fetch; window.fetch = (...a) => { times.push(performance.now()); return f(...a); }; }",
        times,
    )
    seen.give(file("red"))
    assert seen.card().locator(".answer bdi").inner_text() == "red"
    first, second = times.json_value()
    assert second - first >= 990  # ms


def test_a_server_that_stays_busy_leaves_a_button(seen: Seen) -> None:
    body = json.dumps({"error": "the deadline of 10 s is over", "request_id": "abc"})
    refuse = {"status": 504, "headers": {"Retry-After": "0"}, "body": body}
    seen.page.route("**/predict?*", lambda route: route.fulfill(**refuse))
    seen.give(file("red"))
    assert "took too long" in seen.card().inner_text()
    assert "Request abc" in seen.card().inner_text()
    assert len([url for url in seen.requests if "/predict?" in url]) == 4
    seen.page.unroute("**/predict?*")
    seen.card().locator(".again").click()
    seen.page.wait_for_selector(".card[data-state=done]")


def test_the_button_counts_down(seen: Seen) -> None:
    refuse = {"status": 503, "headers": {"Retry-After": "60"}, "body": json.dumps({"error": "loading"})}
    seen.page.route("**/predict?*", lambda route: route.fulfill(**refuse))
    seen.give(file("red"))
    again = seen.card().locator(".again")
    assert again.is_disabled()
    assert re.fullmatch(r"Try again in (59|60) s", again.inner_text())


def test_pictures_wait_while_the_server_is_gone(seen: Seen) -> None:
    seen.page.route("**/predict?*", lambda route: route.abort())
    seen.page.route("**/v2/health/ready", lambda route: route.abort())
    seen.page.set_input_files("#files", [file("red"), file("blue")])
    seen.page.wait_for_selector("#gone:not([hidden])")
    assert "does not answer" in seen.page.inner_text("#gone")
    seen.page.wait_for_selector(".card[data-state=later]")
    seen.page.unroute("**/predict?*")
    seen.page.unroute("**/v2/health/ready")
    seen.settled()
    assert [seen.card(k).locator(".answer bdi").inner_text() for k in (0, 1)] == ["red", "blue"]
    seen.page.wait_for_selector("#gone", state="hidden")


def test_another_model_answers_all_pictures_again(seen: Seen) -> None:
    seen.give(file("red"), file("blue"))
    seen.card().locator(".look").click()
    choose(seen, "hostile")
    seen.page.wait_for_selector(".card:has-text('onerror') >> nth=1")  # both: each names all classes
    seen.settled()
    assert [seen.card(k).locator(".answer bdi").inner_text() for k in (0, 1)] == [SHOWN[2], SHOWN[0]]
    assert seen.page.locator("img.heat").count() == 0


def test_hostile_names_are_inert(seen: Seen) -> None:
    choose(seen, "hostile")
    names = ["<script>alert(2)</script>.png", "\u202egnp.exe", '"><svg onload=alert(3)>.png']
    seen.give(*[file(colour, name=name) for colour, name in zip(CLASSES, names, strict=True)])
    seen.card().locator(".look").click()
    seen.page.wait_for_selector("img.heat")
    assert seen.page.locator(".row .name").all_inner_texts()[0] == SHOWN[0]
    assert seen.page.locator(".file").all_inner_texts() == [names[0], "\\u202egnp.exe", names[2]]
    seen.page.click("#as-table")
    seen.page.click("#about")
    texts = seen.page.inner_text("#card")
    assert all(name in texts for name in SHOWN)
    assert seen.page.locator("body script, [onerror], [onload], svg[onload]").count() == 0


def saved(seen: Seen) -> str:
    with seen.page.expect_download() as waiting:
        seen.page.click("#csv")
    return waiting.value.path().read_text("utf-8")


def test_the_csv_is_what_the_command_line_writes(seen: Seen, page_runs: dict[str, Run]) -> None:
    files = [file(colour, k) for k, colour in enumerate(CLASSES)] + [strange()]
    for k, one in enumerate(files):  # in batches the scores would differ in their last digits
        seen.give(one)
        seen.page.wait_for_selector(f".bars >> nth={k}")
    found = saved(seen)
    predictor = Predictor(page_runs["colours"], threads=1)
    alone = [next(predictor.predict([one["buffer"]])) for one in files]
    named = [replace(answer, source=one["name"]) for answer, one in zip(alone, files, strict=True)]
    assert found == "".join(csv_text(named))


def test_the_csv_defuses_names_and_gives_them_back(seen: Seen) -> None:
    choose(seen, "hostile")
    names = ["=1+1.png", "+a.png", "-a.png", "@a.png", "'q.png", '"x",y.png', "＝wide.png", "ok\u200f.png"]
    seen.give(*[file("green", name=name) for name in names], PDF)
    rows = list(csv.DictReader(io.StringIO(saved(seen))))
    assert [unescape_cell(row["source"]) for row in rows] == [*names, "invoice.pdf"]
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "＝", "\t", "\r", "\n")]
    assert [unescape_cell(row["label"]) for row in rows[:-1]] == [HOSTILE[1]] * len(names)
    assert {unescape_cell(rows[0][f"class_{k}"]) for k in (1, 2, 3)} == set(HOSTILE)
    assert "PDF" in rows[-1]["error"]


def test_the_table_sorts_by_each_column(seen: Seen) -> None:
    seen.give(file("red", 10), file("blue", 9), PDF, strange())
    seen.page.click("#as-table")
    names = lambda: seen.page.locator("#table tbody button.link").all_inner_texts()  # noqa: E731
    heads = seen.page.locator("#table thead button")
    heads.nth(0).click()
    assert names() == ["blue-9.png", "invoice.pdf", "red-10.png", "stripes.png"]
    heads.nth(0).click()
    assert names()[0] == "stripes.png"
    assert seen.page.locator("#table th[aria-sort=descending]").count() == 1
    heads.nth(2).click()
    shares = [text for text in seen.page.locator("#table tbody td:nth-child(3)").all_inner_texts() if text]
    assert len(shares) == 3
    assert shares == sorted(shares, key=lambda text: -float(text.split("\u00a0")[0]))
    seen.page.click("#table tbody button.link >> text=red-10.png")
    assert seen.page.evaluate("document.activeElement.className") == "card"


def test_the_model_card(seen: Seen) -> None:
    choose(seen, "hostile")
    seen.page.click("#about")
    text = seen.page.inner_text("#card")
    for expected in (
        "90.0\u00a0% (85.0\u00a0–\u00a094.0\u00a0%)",
        "It cannot tell",
        "JPEG",
        "150 test pictures",
        "resnet18",
    ):
        assert expected in text
    seen.page.keyboard.press("Escape")
    assert not seen.page.is_visible("#card")
    assert seen.page.evaluate("document.activeElement.id") == "about"


def test_by_keyboard_alone(seen: Seen) -> None:
    press, active = seen.page.keyboard.press, lambda what: seen.page.evaluate(f"document.activeElement.{what}")
    seen.page.on("filechooser", lambda _: None)  # from now on the browser asks Playwright, and opens no window
    reached = []
    for _ in range(4):
        press("Tab")
        reached.append(active("id") or active("className"))
    assert reached == ["skip", "model", "about", "pick"]
    with seen.page.expect_file_chooser() as waiting:
        press("Enter")
    waiting.value.set_files([file("red"), file("blue"), file("green")])
    seen.settled()
    seen.page.focus("#clear")
    while active("className") != "card":
        press("Tab")
    assert seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press("ArrowRight")
    assert active("textContent").startswith("blue-0.png")
    press("Enter")
    seen.page.wait_for_selector("img.heat")
    press("Escape")
    assert seen.page.locator("img.heat").count() == 0
    for _ in range(3):
        press("Tab")
    assert active("className") == "row"
    press("Enter")
    seen.page.wait_for_selector("img.heat")
    press("Escape")
    assert active("className") == "card"
    press("End")
    press("Delete")
    assert seen.page.locator(".card").count() == 2
    assert active("className") == "card"


def test_the_camera_takes_a_picture_and_answers_live(seen: Seen) -> None:
    seen.page.click("#camera-open")
    seen.page.wait_for_selector("#shoot:enabled")
    seen.page.check("#live")
    seen.page.wait_for_selector("#live-answer:has-text('green')")
    seen.page.click("#shoot")
    seen.settled()
    assert seen.card().locator(".file").inner_text() == "camera-1.jpg"
    assert seen.page.evaluate("document.getElementById('video').srcObject") is None


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_scrolling_sideways(seen: Seen, width: int) -> None:
    seen.page.set_viewport_size({"width": width, "height": 640})
    assert seen.overflow == 0
    choose(seen, "hostile")
    seen.give(file("red", name="a" * 200 + ".png"), file("blue"), PDF)
    seen.card().locator(".look").click()
    seen.page.wait_for_selector("img.heat")
    assert seen.overflow == 0
    seen.page.click("#as-table")
    assert seen.overflow == 0
    seen.page.click("#about")
    assert (
        seen.page.evaluate(
            "(() => { const d = document.getElementById('card'); return d.scrollWidth - d.clientWidth; })()"
        )
        <= 0
    )


CONTRAST = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((x, k) => a * x + (1 - a) * under[k]);
  const ground = (node) => {
    if (!node) return [255, 255, 255];
    const own = parse(getComputedStyle(node).backgroundColor);
    return (own[3] ?? 1) === 1 ? own.slice(0, 3) : over(own, ground(node.parentElement));
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest(":disabled, .unseen, noscript, .map, option")) continue;
    const under = ground(node);
    const [a, b] = [light(over(parse(getComputedStyle(node).color), under)), light(under)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.className + ": " + walker.currentNode.data]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_in_both_schemes(seen: Seen, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5:1 for text, measured from computed styles."""
    seen.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    measured = seen.page.evaluate(CONTRAST)
    seen.give(file("red"), strange(), PDF)
    seen.card().locator(".look").click()
    seen.page.wait_for_selector("img.heat")
    measured += seen.page.evaluate(CONTRAST)
    for press in ("#as-table", "#about"):
        seen.page.click(press)
        measured += seen.page.evaluate(CONTRAST)
    assert len(measured) > 100
    assert [entry for entry in measured if entry[0] < 4.5] == []
    ink, paper = (
        seen.page.evaluate(f"getComputedStyle(document.body).{what}") for what in ("color", "backgroundColor")
    )
    brighter = sum(map(int, re.findall(r"\d+", ink))) > sum(map(int, re.findall(r"\d+", paper)))
    assert brighter == (scheme == "dark")


NAMELESS = """() => {
  const text = (ids) => ids.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
  const named = (node) => {
    const by = node.getAttribute("aria-labelledby");
    return (by && text(by)) || node.getAttribute("aria-label")
      || [...(node.labels ?? [])].map((l) => l.textContent).join("")
      || (node.matches("button, a, summary") && node.textContent) || "";
  };
  const controls = "button, a, input, select, summary, dialog, progress, [tabindex], [role=region], [role=group]";
  const nameless = [...document.querySelectorAll(controls)].filter((node) => !named(node).trim());
  const images = [...document.images].filter((image) => !image.hasAttribute("alt"));
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  const twice = ids.filter((id, k) => ids.indexOf(id) !== k);
  const broken = [...document.querySelectorAll("[aria-labelledby], [aria-describedby]")].filter((node) =>
    ["aria-labelledby", "aria-describedby"].some((a) => (node.getAttribute(a) ?? "").split(" ").filter(Boolean)
      .some((id) => !document.getElementById(id))));
  const small = [...document.querySelectorAll("button, select")].filter((node) => node.checkVisibility())
    .map((node) => node.getBoundingClientRect()).filter((box) => box.width < 24 || box.height < 24);
  return [nameless, images, twice, broken].map((list) => list.map((x) => x.outerHTML ?? x)).concat([small.length]);
}"""


def test_every_control_has_a_name(seen: Seen) -> None:
    """Names, alternative texts, unique ids, labels that exist, targets of 24 px (WCAG 2.2: 4.1.2, 1.1.1, 2.5.8)."""
    seen.give(file("red"), strange(), PDF)
    seen.card().locator(".look").click()
    seen.page.wait_for_selector("img.heat")
    assert seen.page.evaluate(NAMELESS) == [[], [], [], [], 0]
    seen.page.click("#as-table")
    seen.page.click("#about")
    assert seen.page.evaluate(NAMELESS) == [[], [], [], [], 0]
    assert seen.page.evaluate("document.documentElement.lang") == "en"
    assert seen.page.locator("h1").count() == 1


def test_the_page_has_no_inline_script_or_style(base_url: str, seen: Seen) -> None:
    response = seen.page.request.get(base_url)
    assert "script-src 'self'; style-src 'self'" in response.headers["content-security-policy"]
    assert not re.search(r"\sstyle=|<style|<script(?![^>]*src=)|\son\w+=|https?://", response.text())

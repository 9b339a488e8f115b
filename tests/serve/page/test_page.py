"""The page in a real browser: from a file or the microphone to text, to a correction, to a download; errors."""

import json
import re

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}
DIGIT = re.compile("three|one|four")
DONE = "#list li[data-state=done]"


def heard(page):
    return " ".join(page.locator(".word").all_inner_texts())


def downloaded(page, end):
    with page.expect_download() as found:
        page.get_by_role("button", name=end, exact=True).click()
    return found.value.suggested_filename, found.value.path().read_text("utf-8")


def test_upload_to_download(server, visit, path):
    page = visit(server, "upload", expected=["422"])
    page.wait_for_selector("#welcome .choose:enabled")
    page.picture("beginning")
    page.set_input_files("#files", path)
    page.wait_for_selector(DONE)
    assert heard(page) == "three one four"
    page.picture("result")
    # a click on a word plays it: the place moves to it and stops at its end
    page.get_by_role("button", name="one", exact=True).click()
    page.wait_for_selector("[role=slider][aria-valuetext^='0:00.6 of 0:02.']")
    page.wait_for_selector(".play[aria-label=Play]")
    name, captions = downloaded(page, "srt")
    assert name == "three-one-four.srt"
    assert re.fullmatch(r"1\n00:00:00,120 --> 00:00:01,\d+\nthree one four\n\n", captions)
    # a correction is aligned with the sound, and what cannot be is said beside it
    page.get_by_role("button", name="Edit text").click()
    text = page.get_by_role("textbox", name="Text, a line for each caption")
    assert text.input_value() == "three one four"
    text.fill("?")
    page.get_by_role("button", name="Align with the sound").click()
    page.get_by_role("alert").filter(has_text="nothing to align").wait_for()
    page.picture("alignment-error")
    text.fill("Three,\nONE four!")
    page.get_by_role("button", name="Align with the sound").click()
    page.wait_for_selector(".words p >> nth=1")
    assert heard(page) == "Three, ONE four!"
    assert [line.split()[2:] for line in downloaded(page, "tsv")[1].splitlines()[1:]] == [["Three,"], ["ONE", "four!"]]
    assert json.loads(downloaded(page, "json")[1])["segments"][1]["words"][0]["word"] == "ONE"
    assert '"ONE"' in downloaded(page, "TextGrid")[1]
    assert downloaded(page, "vtt")[1].startswith("WEBVTT")
    assert downloaded(page, "txt") == ("three-one-four.txt", "Three,\nONE four!\n")


def test_several_files_on_a_phone_in_the_dark_and_an_error_where_it_is_looked_for(server, visit, path):
    page = visit(server, "phone", expected=["422"], **PHONE)
    page.wait_for_selector("#welcome .choose:enabled")
    page.picture("beginning")
    broken = {"name": "notes.mp3", "mimeType": "audio/mpeg", "buffer": b"no sound" * 100}
    page.set_input_files("#files", [path, path.with_name("two-seven-one-eight.flac")])
    page.set_input_files("#files", [broken])
    page.wait_for_selector("#list li[data-state=failed]")
    page.get_by_role("alert").filter(has_text="notes.mp3 cannot be decoded").wait_for()
    page.picture("error")
    page.get_by_role("button", name="Remove notes.mp3").click()
    page.wait_for_selector("#list:not(:has(li:nth-child(3))):has(li:nth-child(2)[data-state=done])")
    page.locator("#list .open").nth(1).click()
    assert heard(page) == "two seven one eight"
    page.picture("result")
    assert page.locator("body").evaluate("body => body.scrollWidth") == 390  # nothing beyond the width


def test_microphone_to_text(server, visit):
    page = visit(server, "microphone")
    page.locator("#welcome .record:enabled").click()
    page.locator("#live-text").filter(has_text=DIGIT).wait_for()  # which ones, a busy machine's sound decides
    page.picture("live")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(DONE)
    assert DIGIT.search(heard(page))
    page.picture("result")


def test_without_a_microphone_it_says_so(server, visit):
    page = visit(server, "no-microphone")
    page.locator("body").evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }; }"
    )
    page.locator("#welcome .record:enabled").click()
    page.get_by_role("alert").filter(has_text="There is no microphone").wait_for()
    page.picture("error")


def test_a_key(start, visit, path):
    with start(api_key="right") as server:
        page = visit(server, "key", expected=["401"])
        field = page.get_by_label("This server needs a key")
        for key in ("wrong", "right"):
            field.fill(key)
            page.get_by_role("button", name="Use key").click()
            if key == "wrong":
                page.get_by_role("alert").filter(has_text="This key is not right").wait_for()
                page.picture("wrong")
        page.wait_for_selector("#welcome .choose:enabled")
        page.set_input_files("#files", path)
        page.wait_for_selector(DONE)
        page.locator(".side .record").click()
        page.locator("#live-text").filter(has_text=DIGIT).wait_for()  # the websocket has the key too


def test_by_keyboard(server, visit, path):
    page = visit(server, "keyboard")
    page.set_input_files("#files", path)
    page.wait_for_selector(DONE)
    page.get_by_role("slider", name="Position in the recording").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("[role=slider][aria-valuetext^='0:01.0 of 0:02']")
    page.get_by_role("button", name="three", exact=True).focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(":focus").inner_text() == "one"
    assert page.locator(".word[tabindex='0']").all_inner_texts() == ["one"]  # one stop of Tab for all words
    page.locator("#status").filter(has_text="three one four").wait_for(state="attached")


def test_a_full_server_is_asked_again(start, visit, path):
    with start(queue=1) as server:
        place = server.engine.place()
        page = visit(server, "busy", expected=["429"])
        page.wait_for_selector("#welcome .choose:enabled")
        page.set_input_files("#files", path)
        page.locator("#list .state").filter(has_text="The server is busy").wait_for()
        page.picture("waiting")
        place.cancel()
        page.wait_for_selector(DONE)

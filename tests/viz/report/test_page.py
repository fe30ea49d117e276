"""The report in a real browser: it loads, responds to the pointer, and fits a phone and the dark scheme."""

from __future__ import annotations

import pytest
from helpers.browser import chromium, emulate, whole_page

pytestmark = pytest.mark.slow

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture(scope="module")
def pages(held_everything, held_lift, tmp_path_factory):
    """The reports of a run with images and of one without."""
    from cvhpe.viz.report.gather import gather_report
    from cvhpe.viz.report.page import write_report

    folder = tmp_path_factory.mktemp("pages")
    for name, held in (("images", held_everything), ("joints", held_lift)):
        write_report(gather_report(held, None), folder / f"{name}.html")
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture(params=["images", "joints"])
def page(request, pages, browser):
    emulate(browser)
    browser.get_log("browser")
    browser.get((pages / f"{request.param}.html").as_uri())
    assert browser.find_element("tag name", "body").get_attribute("data-ready") == "yes"
    return browser


def canvas_image(window, selector):
    """The image on a canvas, and its number of colours."""
    return window.execute_script(
        """const c = document.querySelector(arguments[0]), p = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        return [c.toDataURL(), new Set(new Uint32Array(p.data.buffer)).size]""",
        selector,
    )


def pointer(window, selector, kind, x, y):
    """Send a pointer event at a fraction of an element."""
    window.execute_script(
        """const e = document.querySelector(arguments[0]), b = e.getBoundingClientRect();
        e.setPointerCapture = () => {};
        e.dispatchEvent(new PointerEvent(arguments[1], {clientX: b.left + arguments[2] * b.width,
          clientY: b.top + arguments[3] * b.height, bubbles: true, pointerId: 1}))""",
        selector,
        kind,
        x,
        y,
    )


def test_it_loads_without_a_message_in_the_console(page):
    assert page.get_log("browser") == []
    empty = page.execute_script(
        """return [...document.querySelectorAll('section .body')]
        .filter(b => !b.children.length).map(b => b.parentNode.id)"""
    )
    assert empty == []
    assert page.find_elements("css selector", "main .left-out") == []


def test_the_slider_changes_the_hand_and_the_image(page):
    before = [canvas_image(page, c) for c in ("#interpolation-hand", "#interpolation-image")]
    page.execute_script(
        """const s = document.getElementById('interpolation-slider');
        s.value = s.max; s.dispatchEvent(new Event('input'))"""
    )
    after = [canvas_image(page, c) for c in ("#interpolation-hand", "#interpolation-image")]
    for (old, few), (new, _) in zip(before, after, strict=True):
        assert few > 5
        assert old != new
    assert page.find_element("css selector", "#interpolation output").text == "100 %"


def test_the_hand_rotates_when_dragged_and_a_double_click_resets_it(page):
    start, _ = canvas_image(page, "#interpolation-hand")
    pointer(page, "#interpolation-hand", "pointerdown", 0.5, 0.5)
    pointer(page, "#interpolation-hand", "pointermove", 0.9, 0.5)
    pointer(page, "#interpolation-hand", "pointerup", 0.9, 0.5)
    rotated, _ = canvas_image(page, "#interpolation-hand")
    assert rotated != start
    pointer(page, "#interpolation-hand", "pointermove", 0.1, 0.5)
    assert canvas_image(page, "#interpolation-hand")[0] == rotated
    page.execute_script("document.querySelector('#interpolation-hand').dispatchEvent(new MouseEvent('dblclick'))")
    assert canvas_image(page, "#interpolation-hand")[0] == start


def test_a_latent_under_the_pointer_shows_its_hand(page):
    assert page.execute_script("return document.getElementById('tip').hidden")
    x, y = page.execute_script("return DATA.latents.panels[0].at[0]")
    pointer(page, "#latents canvas", "pointermove", 0.5 + 0.47 * x, 0.5 - 0.47 * y)
    assert "held-out hand" in page.find_element("id", "tip").text
    assert canvas_image(page, "#tip canvas")[1] > 5
    pointer(page, "#latents canvas", "pointerleave", 0, 0)
    assert page.execute_script("return document.getElementById('tip').hidden")


def test_a_curve_under_the_pointer_shows_its_values(page):
    pointer(page, "#pck svg", "pointermove", 0.6, 0.5)
    assert "threshold, mm: " in page.find_element("id", "tip").text
    assert "mean pose" in page.find_element("id", "tip").text


def test_it_fits_a_phone(page):
    emulate(page, width=360, height=740, phone=True)
    page.refresh()
    wide, screen = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide == screen == 360
    out = page.execute_script(
        """return [...document.querySelectorAll('section, section svg, section canvas')]
        .filter(e => e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 60))"""
    )
    assert out == []


def test_dark_mode_is_dark_and_readable(page):
    def contrast():
        return page.execute_script(
            """const light = (c) => { const [r, g, b] = c.match(/\\d+/g).map(v => { v /= 255;
              return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 });
              return 0.2126 * r + 0.7152 * g + 0.0722 * b };
            const card = light(getComputedStyle(document.querySelector('section')).backgroundColor);
            const against = (e) => { const t = light(getComputedStyle(e).color);
              return (Math.max(t, card) + 0.05) / (Math.min(t, card) + 0.05) };
            const texts = [...document.querySelectorAll('section h2, section p, section td')];
            return [card, Math.min(...texts.map(against))]"""
        )

    light, at_least = contrast()
    assert light > 0.9
    assert at_least >= 4.5
    before, _ = canvas_image(page, "#examples .example canvas.rotatable")
    emulate(page, dark=True)
    dark, at_least = contrast()
    assert dark < 0.05
    assert at_least >= 4.5
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert canvas_image(page, "#examples .example canvas.rotatable")[0] != before


def test_a_screenshot_has_every_section(page, tmp_path):
    import numpy as np
    from PIL import Image

    shot = np.asarray(Image.open(whole_page(page, tmp_path / "page.png")).convert("RGB"))
    boxes = page.execute_script(
        """return [...document.querySelectorAll('section')].map(s => { const b = s.getBoundingClientRect();
        return [s.id, b.left + scrollX, b.top + scrollY, b.right + scrollX, b.bottom + scrollY] })"""
    )
    assert len(boxes) == 9
    for name, *box in boxes:
        left, top, right, bottom = (int(v) for v in box)
        part = shot[top:bottom, left:right].reshape(-1, 3)
        assert bottom - top > 120, name
        assert len(np.unique(part, axis=0)) > 20, name

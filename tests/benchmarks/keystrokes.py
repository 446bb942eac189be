"""How long it takes in the playground from a key to the bars of all models.

charlm serve RUN RUN … & python tests/benchmarks/keystrokes.py http://127.0.0.1:8000

Needs playwright and Chromium, at /usr/bin/chromium or CHROMIUM. All runs that are served answer, eight at most. The
time ends when the bars are in the document, and when the frame that shows them is painted.
"""

import os
import statistics
import sys

from playwright.sync_api import Page, sync_playwright

BEFORE = "ROMEO:\nWhat shall I say to thee, my lord?\n"
TYPED = "The sweet night is gone, and all the world shall know what I have done to thee, my lord, and yet "
MILLISECONDS_BETWEEN_KEYS = 180
RECORD = """() => {
  window.keys = [];
  document.querySelector("#text").addEventListener("keydown", ({ timeStamp }) => window.keys.push({ timeStamp }), true);
  new MutationObserver(() => {
    for (const key of window.keys.filter(({ bars }) => !bars)) {
      key.bars = performance.now() - key.timeStamp;
      requestAnimationFrame(() => {
        const after = new MessageChannel();
        after.port1.onmessage = () => (key.paint = performance.now() - key.timeStamp);
        after.port2.postMessage(0);
      });
    }
  }).observe(document.querySelector("#race"), { childList: true }); // which is drawn last
}"""


def measure(page: Page) -> None:
    """Type, and print the times."""
    chosen = page.locator(".chip input:checked").count()
    page.wait_for_function(f"() => document.querySelectorAll('#expect .bars').length === {chosen}")
    page.focus("#text")
    page.keyboard.type(BEFORE, delay=MILLISECONDS_BETWEEN_KEYS)
    page.evaluate(RECORD)
    page.keyboard.type(TYPED, delay=MILLISECONDS_BETWEEN_KEYS)
    page.wait_for_timeout(1000)
    for name in ("bars", "paint"):
        times = sorted(key[name] for key in page.evaluate("window.keys") if name in key)
        median, p95 = statistics.median(times), times[int(0.95 * len(times))]
        print(f"key to {name}: {len(times)} keys, {chosen} models, median {median:.1f} ms, p95 {p95:.1f} ms")


def main(url: str) -> None:
    """Measure the page at this address."""
    path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.wait_for_selector(".chip")
        measure(page)
        browser.close()


main(sys.argv[1])

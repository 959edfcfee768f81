// Drives the editor in a real browser, under the policy of the dashboard. Needs the files of relay/assets/vendor and
// Chromium (`CHROMIUM`, or /usr/bin/chromium). Writes screenshots to the folder that is its argument, if there is one.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const HERE = dirname(fileURLToPath(import.meta.url));
const ASSETS = join(HERE, "../../relay/assets/vendor");
const SCREENSHOTS = process.argv[2];

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
  "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".woff2": "font/woff2" };
const PART =
  '<div id="part"><p>new</p><tidegate-editor id="moved" language="cel">' +
  '<textarea name="part" aria-label="Part">event.id != ""</textarea></tidegate-editor></div>';

/** The names of the table "Expressions" in docs/API.md that follow `event.`. */
const EVENT_FIELDS = ["id", "type", "source", "provider_event_id", "received_at", "received_at_ms", "method", "query"];

let submitted = null;

async function answer(request, response) {
  const { pathname } = new URL(request.url, "http://host");
  const send = (status, type, body) => {
    const headers = { "content-type": `${type}; charset=utf-8`, "content-security-policy": POLICY };
    response.writeHead(status, headers).end(body);
  };
  if (pathname === "/submit") {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    submitted = new URLSearchParams(Buffer.concat(chunks).toString());
    return send(200, "text/html", "<title>Sent</title>sent");
  }
  if (pathname === "/part") return send(200, "text/html", PART);
  if (pathname === "/favicon.ico") return send(204, "image/x-icon", "");
  const name = pathname === "/" ? "page.html" : pathname.slice(1);
  const folder = name.startsWith("page.") ? join(HERE, "check") : ASSETS;
  try {
    send(200, TYPES[extname(name)], await readFile(join(folder, name)));
  } catch {
    send(404, "text/plain", "not found");
  }
}

const server = createServer((request, response) => void answer(request, response));
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const URL_OF_PAGE = `http://127.0.0.1:${server.address().port}/`;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });

/** Opens the page in a new context, and collects what goes wrong there. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 800, height: 900 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("requestfailed", (request) => faults.push(`${request.url()} failed`));
  await page.exposeFunction("reportViolation", (text) => faults.push(`violation: ${text}`));
  await page.addInitScript(() => {
    const report = ({ violatedDirective, blockedURI }) => window.reportViolation(`${violatedDirective} ${blockedURI}`);
    document.addEventListener("securitypolicyviolation", report);
  });
  await page.goto(URL_OF_PAGE);
  return { page, faults, close: () => context.close() };
}

const checks = [];
const check = (name, run, options) => checks.push({ name, run, options });

const editor = (page, id) => page.locator(`#${id} .cm-content`);
const valueOf = (page, selector) => page.locator(selector).evaluate((textarea) => textarea.value);
/** The completions that are offered, as soon as there are some. */
async function offered(page) {
  await page.locator(".cm-tooltip-autocomplete li").first().waitFor();
  return page.locator(".cm-tooltip-autocomplete .cm-completionLabel").allTextContents();
}
/** Takes the selected completion. */
async function accept(page) {
  await page.locator(".cm-tooltip-autocomplete li[aria-selected]").waitFor();
  // CodeMirror ignores the key for 75 ms after the list opens, which nothing shows.
  await page.waitForTimeout(150);
  await page.keyboard.press("Enter");
}
const activeElement = (page) =>
  page.evaluate(() => document.activeElement.id || document.activeElement.tagName.toLowerCase());

check("the policy is in force: an inline style is reported", async ({ page, faults }) => {
  await page.evaluate(() => document.body.setAttribute("style", "color: red"));
  // The event, and the browser's own message.
  for (let turn = 0; turn < 500 && faults.length < 2; turn += 1) await page.waitForTimeout(10);
  assert.ok(faults.includes("violation: style-src-attr inline"), faults.join());
  faults.length = 0;
});

check("the textarea is replaced, and named by its label", async ({ page }) => {
  assert.equal(await page.locator("#filter").isVisible(), false);
  const box = page.getByRole("textbox", { name: "Filter", exact: true });
  assert.equal(await box.getAttribute("aria-multiline"), "true");
  assert.equal(await box.getAttribute("aria-description"), "True or false.");
  assert.equal(await page.getByRole("textbox", { name: "Note", exact: true }).count(), 1, "a label around the editor");
  assert.equal(await editor(page, "cel").locator(".cm-placeholder").textContent(), "event.type == 'invoice.paid'");
  assert.equal(await page.evaluate(() => document.querySelector("#cel").shadowRoot.querySelector("style")), null);
  const heights = await Promise.all(["cel", "text"].map(async (id) => (await editor(page, id).boundingBox()).height));
  assert.ok(heights[0] > heights[1] + 30, `three lines are higher than one: ${heights}`);
  await page.locator("label[for=filter]").click();
  assert.equal(await activeElement(page), "cel");
});

check("what is typed is the value of the textarea, with its events", async ({ page }) => {
  await page.evaluate(() => {
    window.seen = [];
    for (const name of ["input", "change", "keydown"]) {
      document.querySelector("#form").addEventListener(name, ({ target }) => window.seen.push(`${name} ${target.id}`));
    }
  });
  const text = "event.type == 'invoice.paid' && size(body.lines) > 1";
  await editor(page, "cel").click();
  await page.keyboard.type(text);
  assert.equal(await valueOf(page, "#filter"), text, "brackets and quotes are typed over");
  await page.keyboard.press("Control+z");
  assert.notEqual(await valueOf(page, "#filter"), text);
  await page.keyboard.press("Control+y");
  assert.equal(await valueOf(page, "#filter"), text);
  const seen = await page.evaluate(() => window.seen);
  assert.ok(seen.filter((event) => event === "input filter").length >= text.length - 5, "an event for each change");
  assert.ok(!seen.includes("change filter"));
  const typed = seen.filter((event) => event.startsWith("keydown")).length;
  assert.ok(typed <= 6, `the page sees only keys with Control and those of no text, not ${typed}`);
  await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  assert.ok((await page.evaluate(() => window.seen)).includes("change filter"));
  await page.locator("#after").click();
  await page.waitForURL("**/submit");
  assert.equal(submitted.get("filter"), text);
  assert.equal(submitted.get("sample").replaceAll("\r\n", "\n"), '{\n  "amount": 42\n}');
});

check("the fields of an event are offered, and nothing else", async ({ page }) => {
  await editor(page, "cel").click();
  await page.keyboard.type("event.");
  assert.deepEqual((await offered(page)).sort(), [...EVENT_FIELDS].sort());
  await page.keyboard.type("pro");
  await page.waitForFunction(() => {
    const items = document.querySelector("#cel").shadowRoot.querySelectorAll(".cm-tooltip-autocomplete li");
    return items.length === 1;
  });
  await accept(page);
  assert.equal(await valueOf(page, "#filter"), "event.provider_event_id");
});

check("names, functions and variables of loops are offered where they can be used", async ({ page }) => {
  const after = async (text) => {
    await editor(page, "cel").focus();
    await page.keyboard.press("Control+a");
    await page.keyboard.press("Delete");
    await page.keyboard.insertText(text.slice(0, -1));
    await page.keyboard.type(text.slice(-1));
    await page.keyboard.press("Control+Space");
    return offered(page);
  };
  const names = await after("true && ");
  assert.deepEqual(names.slice(0, 3).sort(), ["body", "event", "headers"], "the names come first");
  assert.ok(names.includes("has") && names.includes("null") && !names.includes("startsWith"), names.join());
  const members = await after("body.x.");
  assert.ok(members.includes("startsWith") && members.includes("exists") && !members.includes("has"), members.join());
  assert.deepEqual((await after("optional.")).sort(), ["none", "of", "ofNonZeroValue"]);
  assert.deepEqual((await after("event.?")).sort(), [...EVENT_FIELDS].sort());
  assert.ok((await after("body.lines.exists(line, l")).includes("line"), "the variable of the loop");

  await after("body.x.starts");
  await accept(page);
  await page.keyboard.type("'a");
  assert.equal(await valueOf(page, "#filter"), "body.x.startsWith('a')", "the cursor is between the parentheses");

  for (const text of ["'event.", "// event.", "1."]) {
    await page.keyboard.press("Control+a");
    await page.keyboard.press("Delete");
    await page.keyboard.type(text);
    await page.keyboard.press("Control+Space");
    // Longer than a list takes to appear: there is no sign that none will.
    await page.waitForTimeout(300);
    assert.equal(await page.locator(".cm-tooltip-autocomplete").count(), 0, `nothing is offered after ${text}`);
  }
});

check("the tokens of CEL have their colours", async ({ page }) => {
  const expected = { name: null, string: "--ok", number: "--warn", keyword: "--accent", operator: "--text-muted" };
  const colours = await page.evaluate(() => {
    const probe = document.createElement("p");
    document.body.append(probe);
    const colour = (name) => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    };
    const of = Object.fromEntries(["--ok", "--warn", "--accent", "--text-muted", "--text"].map((n) => [colour(n), n]));
    probe.remove();
    const tokens = document.querySelector("#saved-editor").shadowRoot.querySelectorAll(".cm-line span");
    return Array.from(tokens, (span) => [span.textContent, of[getComputedStyle(span).color]]);
  });
  const colourOf = (text) => colours.find(([token]) => token === text)?.[1];
  for (const [text, colour] of [
    ['"invoice."', expected.string],
    ["'shop-a'", expected.string],
    ["r'^x\\d+$'", expected.string],
    ["1.5e3", expected.number],
    ["null", expected.number],
    ["in", expected.keyword],
    ["startsWith", expected.keyword],
    ["&&", expected.operator],
    ["event", "--text"],
    ["`first-name`", "--text"],
    ["// Only large invoices of the two shops, and never those of a test.", "--text-muted"],
  ]) {
    assert.equal(colourOf(text), colour, `${text} in ${JSON.stringify(colours)}`);
  }
});

check("an error of the server is underlined until the next edit", async ({ page }) => {
  await editor(page, "cel").click();
  await page.keyboard.insertText("'😀' != '' &&\n  evnt.type == 'x'");
  const show = (error) => page.evaluate((it) => document.querySelector("#cel").showError(it), error);
  const underlined = page.locator("#cel .cm-lintRange-error");
  await show({ line: 2, column: 3, message: '"evnt" is not defined' });
  await underlined.waitFor();
  assert.equal(await underlined.textContent(), "evnt");
  assert.equal(await editor(page, "cel").getAttribute("aria-invalid"), "true");
  assert.equal(await editor(page, "cel").getAttribute("aria-description"), '"evnt" is not defined');
  await underlined.hover();
  assert.equal(await page.locator(".cm-tooltip-lint").textContent(), '"evnt" is not defined');
  await page.mouse.move(0, 0);
  await page.locator(".cm-tooltip-lint").waitFor({ state: "detached" });
  await page.keyboard.press("F8");
  await page.locator(".cm-tooltip-lint").waitFor();

  await show({ line: 1, column: 5, message: "counted in characters" });
  await page.waitForFunction(
    () => document.querySelector("#cel").shadowRoot.querySelector(".cm-lintRange-error")?.textContent === "!",
  );
  await page.evaluate(() => document.querySelector("#cel").clearError());
  await underlined.waitFor({ state: "detached" });
  for (const [line, column] of [[99, 99], [0, 0], [2, 200]]) {
    await show({ line, column, message: "outside" });
    await underlined.waitFor();
  }
  await page.keyboard.press("End");
  await page.keyboard.type("x");
  assert.equal(await underlined.count(), 0, "the edit removes it at once");
  assert.equal(await editor(page, "cel").getAttribute("aria-invalid"), null);
  assert.equal(await editor(page, "cel").getAttribute("aria-description"), "True or false.");
});

check("an error can also be an attribute, which the next edit removes", async ({ page }) => {
  const underlined = page.locator("#moved .cm-lintRange-error");
  const fail = () =>
    page.evaluate(() => {
      const element = document.querySelector("#moved");
      element.setAttribute("error-line", "1");
      element.setAttribute("error-column", "1");
      element.setAttribute("error", "not a condition");
    });
  await fail();
  await underlined.waitFor();
  await editor(page, "moved").click();
  await page.keyboard.type("x");
  assert.equal(await underlined.count(), 0);
  assert.equal(await page.locator("#moved[error]").count(), 0);
  await fail();
  await underlined.waitFor();
  await page.evaluate(() => document.querySelector("#moved").removeAttribute("error"));
  await underlined.waitFor({ state: "detached" });
});

check("the page can answer an event at once", async ({ page }) => {
  await page.evaluate(() => {
    const textarea = document.querySelector("#filter");
    textarea.addEventListener("input", () => {
      textarea.value = textarea.value.toUpperCase();
      document.querySelector("#cel").showError({ line: 1, column: 1, message: "loud" });
    });
  });
  await editor(page, "cel").click();
  await page.keyboard.type("a");
  await page.locator("#cel .cm-lintRange-error", { hasText: "A" }).waitFor();
  assert.equal(await valueOf(page, "#filter"), "A");
});

check("what is not JSON is underlined", async ({ page }) => {
  const underlined = page.locator("#json .cm-lintRange-error");
  await editor(page, "json").click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type(",");
  await underlined.waitFor();
  await page.keyboard.press("Backspace");
  await underlined.waitFor({ state: "detached" });
});

check("Tab and Shift+Tab leave the editor", async ({ page }) => {
  await page.locator("#before").focus();
  const stops = [];
  for (let i = 0; i < 5; i += 1) {
    await page.keyboard.press("Tab");
    stops.push(await activeElement(page));
  }
  assert.deepEqual(stops, ["cel", "json", "text", "saved-editor", "after"]);
  await page.keyboard.press("Shift+Tab");
  assert.equal(await activeElement(page), "saved-editor");
  assert.equal(await valueOf(page, "#filter"), "", "Tab types nothing");
});

check("a list of completions does not hold Tab, and Escape only closes the list", async ({ page }) => {
  await page.evaluate(() => {
    window.escapes = 0;
    document.addEventListener("keydown", (it) => it.key === "Escape" && !it.defaultPrevented && (window.escapes += 1));
  });
  await editor(page, "cel").click();
  await page.keyboard.type("event.");
  await offered(page);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".cm-tooltip-autocomplete").count(), 0);
  assert.equal(await page.evaluate(() => window.escapes), 0);
  await page.keyboard.press("Control+Space");
  await offered(page);
  await page.keyboard.press("Tab");
  assert.equal(await activeElement(page), "json");
  await page.locator(".cm-tooltip-autocomplete").waitFor({ state: "detached" });
});

check("what is saved can be read and not edited", async ({ page }) => {
  const before = await valueOf(page, "#saved");
  await editor(page, "saved-editor").click();
  await page.keyboard.type("x");
  assert.equal(await valueOf(page, "#saved"), before);
  assert.equal(await editor(page, "saved-editor").getAttribute("aria-readonly"), "true");
  await page.evaluate(() => {
    document.querySelector("#saved-editor").removeAttribute("readonly");
    document.querySelector("#saved").readOnly = false;
  });
  await page.locator("#saved-editor [contenteditable=true]").waitFor();
  await page.keyboard.press("Control+Home");
  await editor(page, "saved-editor").click();
  await page.keyboard.type("x");
  assert.notEqual(await valueOf(page, "#saved"), before);
});

check("the editor follows the textarea, the form and its attributes", async ({ page }) => {
  const shown = (id) => page.locator(`#${id} .cm-line`).allTextContents();
  await page.evaluate(() => (document.querySelector("#filter").value = "a\nb"));
  assert.deepEqual(await shown("cel"), ["a", "b"]);
  await page.evaluate(() => (document.querySelector("#cel").value = "c"));
  assert.equal(await valueOf(page, "#filter"), "c");
  await page.locator("#reset").click();
  await page.locator("#cel .cm-placeholder").waitFor();
  assert.equal(await valueOf(page, "#filter"), "");
  await page.evaluate(() => document.querySelector("#cel").setAttribute("placeholder", "other"));
  await page.locator("#cel .cm-placeholder", { hasText: "other" }).waitFor();
  await page.evaluate(() => document.querySelector("#cel").setAttribute("language", "json"));
  await editor(page, "cel").click();
  await page.keyboard.type("nonsense");
  await page.locator("#cel .cm-lintRange-error").waitFor();
});

check("a required text that is missing gets the focus", async ({ page }) => {
  await editor(page, "text").click();
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await page.locator("#after").click();
  await page.locator("#text [aria-invalid=true][aria-required=true]").waitFor();
  assert.equal(await activeElement(page), "text");
  assert.equal(page.url(), URL_OF_PAGE);
});

check("htmx and idiomorph swap a part with an editor, which continues", async ({ page }) => {
  await page.evaluate(() => (window.kept = document.querySelector("#moved")));
  await page.locator("#swap").click();
  await page.getByText("new", { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => window.kept === document.querySelector("#moved")), true);
  await page.locator("#moved .cm-line", { hasText: 'event.id != ""' }).waitFor();
  await page.evaluate(() => document.body.prepend(document.querySelector("#moved")));
  assert.equal(await page.locator("#moved .cm-editor").count(), 1, "a moved editor is there once");
  await editor(page, "moved").click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type("x");
  assert.equal(await valueOf(page, "#moved textarea"), 'event.id != ""x');
  await page.evaluate(() => (document.querySelector("#moved").innerHTML = "<textarea>other</textarea>"));
  await page.locator("#moved .cm-line", { hasText: "other" }).waitFor();
});

check("without script the textarea is used", async ({ page }) => {
  assert.equal(await page.locator("#filter").isVisible(), true);
  await page.locator("#filter").fill("event.id == '1'");
  await page.locator("#after").click();
  await page.waitForURL("**/submit");
  assert.equal(submitted.get("filter"), "event.id == '1'");
}, { javaScriptEnabled: false });

check("the fonts are used", async ({ page }) => {
  await page.evaluate(() => document.fonts.ready);
  const loaded = await page.evaluate(() => Array.from(document.fonts, ({ family, status }) => `${family} ${status}`));
  assert.deepEqual(loaded.sort(), ["Inter loaded", "JetBrains Mono loaded"]);
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [800, 390]) {
    check(`colours are those of the page: ${colorScheme}, ${width} px`, async ({ page }) => {
      await editor(page, "cel").click();
      await page.keyboard.insertText("evnt.type == 'invoice.paid' &&\n  body.");
      const error = { line: 1, column: 1, message: "not defined" };
      await page.evaluate((it) => document.querySelector("#cel").showError(it), error);
      await page.locator("#cel .cm-lintRange-error").waitFor();
      await page.keyboard.press("Control+Space");
      await offered(page);
      await page.locator(".cm-completionInfo").waitFor({ state: width > 640 ? "visible" : "attached" });
      const [ofFrame, ofPage] = await page.evaluate(() => {
        const frame = document.querySelector("#cel").shadowRoot.querySelector(".frame");
        const colour = getComputedStyle(frame).backgroundColor;
        frame.style.background = "var(--surface)";
        return [colour, getComputedStyle(frame).backgroundColor];
      });
      assert.equal(ofFrame, ofPage);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true);
      if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${colorScheme}-${width}.png`) });
      await page.locator("#cel .cm-lintRange-error").hover();
      await page.locator(".cm-tooltip-lint").waitFor();
      if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${colorScheme}-${width}-error.png`) });
    }, { colorScheme, viewport: { width, height: 900 } });
  }
}

let failed = 0;
for (const { name, run, options } of checks) {
  const opened = await open(options);
  opened.page.setDefaultTimeout(5000);
  try {
    await run(opened);
    assert.deepEqual(opened.faults, [], "no message of the console and no violation of the policy");
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}\n${opened.faults.join("\n")}`);
  }
  await opened.close();
}
await browser.close();
server.close();
process.exit(failed > 0 ? 1 : 0);

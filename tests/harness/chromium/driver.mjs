// Drives Chromium for the tests: `tests/harness/src/chromium` starts it. The only argument is the path of Chromium.
//
// A command is a line of JSON on standard input: an id, the name of the command, the number of its tab, a time limit
// in milliseconds, and its own fields. The answer is a line of JSON on standard output with the same id, and with
// `value` or `error`. Commands do not wait for each other. Chromium ends with this process, and this process with its
// input.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// The most entries of a list, and the most characters of a text, in the description of a problem.
const ENTRIES = 100;
const SHOWN = 500;
// How long a failed command may look at the page to describe it.
const DESCRIBED_WITHIN = 2_000;
// How much later than Playwright this process ends a command. Playwright's error says more.
const GRACE = 3_000;
const PAUSE = 25;

const CSP_MARK = "tidegate-csp-violation ";

const browser = await chromium.launch({
    executablePath: process.argv[2],
    // A page that refers to another host has to fail the same way everywhere.
    args: ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1"],
});
browser.on("disconnected", () => {
    console.error("Chromium has ended");
    process.exit(1);
});

const tabs = new Map();

const cut = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text);
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function within(milliseconds, what, promise) {
    let timer;
    const limit = new Promise((_, fail) => {
        timer = setTimeout(() => fail(new Error(`${what} did not end within ${milliseconds} ms`)), milliseconds);
    });
    return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

// Calls `check` until it returns an object with `found`. A page that is being replaced has no elements for a moment, so
// an error only counts if it is the last state.
async function until(what, timeout, check) {
    const deadline = Date.now() + timeout;
    for (;;) {
        let state;
        try {
            const checked = await within(Math.max(deadline - Date.now(), 100), "the check", check());
            if ("found" in checked) return checked.found;
            state = checked.state;
        } catch (error) {
            state = error.message;
        }
        if (Date.now() >= deadline) throw new Error(`waited ${timeout} ms for ${what}; at the end: ${cut(state)}`);
        await sleep(PAUSE);
    }
}

// Runs in every document before its own scripts. Console messages leave the page at once and in order.
function reportViolations(mark) {
    document.addEventListener("securitypolicyviolation", (event) => {
        const { effectiveDirective, blockedURI, sourceFile, lineNumber, sample } = event;
        const place = sourceFile ? ` at ${sourceFile}:${lineNumber}` : "";
        const code = sample ? ` (${sample})` : "";
        console.debug(`${mark}${effectiveDirective} does not allow ${blockedURI || "this"}${place}${code}`);
    });
}

function noProblems() {
    return { console_errors: [], page_errors: [], failed_requests: [], csp_violations: [] };
}

function watch(tab) {
    const { page } = tab;
    const add = (list, text) => tab.problems[list].length < ENTRIES && tab.problems[list].push(cut(text));
    page.on("console", (message) => {
        const text = message.text();
        const { url, lineNumber } = message.location();
        if (text.startsWith(CSP_MARK)) {
            add("csp_violations", text.slice(CSP_MARK.length));
        } else if (/content security policy/i.test(text)) {
            // Of a document without JavaScript, or of one that was refused as a whole.
            add("csp_violations", text);
        } else if (message.type() === "error" && !text.startsWith("Failed to load resource:")) {
            // That message repeats what `response` and `requestfailed` report with the method and the URL.
            add("console_errors", url ? `${text} (${url}:${lineNumber + 1})` : text);
        }
    });
    page.on("pageerror", (error) => add("page_errors", String(error?.stack ?? error)));
    page.on("response", (response) => {
        const request = response.request();
        if (request.isNavigationRequest()) {
            // The main document's status is for the test to judge.
            if (request.frame() === page.mainFrame()) return (tab.status = response.status());
        }
        if (response.status() >= 400) {
            add("failed_requests", `${response.status()} ${request.method()} ${response.url()}`);
        }
    });
    page.on("requestfailed", (request) => {
        const reason = request.failure()?.errorText ?? "failed";
        // The page itself, or the next page, ended the request; a violation of the policy has its own list.
        if (reason === "net::ERR_ABORTED" || reason === "csp" || reason === "net::ERR_BLOCKED_BY_CSP") return;
        add("failed_requests", `${reason} ${request.method()} ${request.url()}`);
    });
    page.on("crash", () => add("page_errors", "the page crashed"));
    page.on("dialog", (dialog) => {
        tab.dialogs.push(dialog.message());
        const answered = tab.accepts_dialogs ? dialog.accept() : dialog.dismiss();
        answered.catch(() => {});
    });
}

async function settle(tab) {
    // Messages of one page arrive in order: what was reported before this answer has arrived. Reports of violations are
    // tasks of the page, which run before the timer.
    const task = tab.javascript ? "new Promise((done) => setTimeout(done))" : "0";
    await within(DESCRIBED_WITHIN, "the page", tab.page.evaluate(task)).catch(() => {});
}

// What makes the document wider than the window: the innermost elements that end right of it and that no ancestor
// clips or scrolls.
function widest(entries) {
    const root = document.documentElement;
    const width = root.clientWidth;
    const whole = document.scrollingElement ?? root;
    if (whole.scrollWidth <= whole.clientWidth) return [];
    const clipped = (element) => {
        for (let parent = element.parentElement; parent && parent !== document.body; parent = parent.parentElement) {
            if (getComputedStyle(parent).overflowX !== "visible") return true;
        }
        return false;
    };
    const right = (element) => {
        const { left, right } = element.getBoundingClientRect();
        // Text can be wider than its element.
        const content = getComputedStyle(element).overflowX === "visible" ? left + element.scrollWidth : 0;
        return Math.max(right, content) + window.scrollX;
    };
    const wide = [...document.body.querySelectorAll("*")].filter((one) => right(one) > width + 0.5 && !clipped(one));
    const inner = wide.filter((one) => !wide.some((other) => other !== one && one.contains(other)));
    const describe = (one) => {
        const id = one.id ? `#${one.id}` : "";
        const classes = [...one.classList].map((name) => `.${name}`).join("");
        const text = one.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
        return `<${one.localName}${id}${classes}> ends at ${Math.round(right(one))} px: ${JSON.stringify(text)}`;
    };
    return [
        `the page is ${whole.scrollWidth} px wide in a window of ${width} px`,
        ...inner.slice(0, entries).map(describe),
    ];
}

async function accessibility(tab) {
    if (!tab.javascript) throw new Error("axe needs a tab with JavaScript");
    // Not through a <script>, which the policy of the page would refuse.
    for (const frame of tab.page.frames()) await frame.evaluate(`${axe}\n0`);
    const { violations } = await tab.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    return violations
        .filter(({ impact }) => impact === "serious" || impact === "critical")
        .map(({ id, impact, help, helpUrl, nodes }) => ({
            rule: id,
            impact,
            help,
            help_url: helpUrl,
            targets: nodes.slice(0, ENTRIES).map(({ target }) => target.flat().join(" ")),
            details: nodes.slice(0, 3).map(({ failureSummary }) => cut(failureSummary ?? "")),
        }));
}

async function open({ width, height, dark, reduced_motion, javascript, beside, timeout }) {
    const next = { timeout, javascript, accepts_dialogs: true, dialogs: [], problems: noProblems(), status: 0 };
    if (beside === null || beside === undefined) {
        next.context = await browser.newContext({
            viewport: { width, height },
            colorScheme: dark ? "dark" : "light",
            reducedMotion: reduced_motion ? "reduce" : "no-preference",
            javaScriptEnabled: javascript,
        });
        await next.context.addInitScript(reportViolations, CSP_MARK);
    } else {
        next.context = find(beside).context;
        next.javascript = find(beside).javascript;
    }
    next.page = await next.context.newPage();
    watch(next);
    const number = (open.last = (open.last ?? 0) + 1);
    tabs.set(number, next);
    return number;
}

function find(number) {
    const tab = tabs.get(number);
    if (!tab) throw new Error("the tab is closed");
    return tab;
}

async function close(tab) {
    for (const [number, other] of tabs) if (other === tab) tabs.delete(number);
    await tab.page.close();
    if (![...tabs.values()].some(({ context }) => context === tab.context)) await tab.context.close();
}

// Each takes the tab, its page, an element, and the command.
const commands = {
    close: (tab) => close(tab),

    goto: async (tab, { url, timeout }) => {
        tab.status = 0;
        await tab.page.goto(url, { timeout });
        return tab.status;
    },
    reload: async (tab, { timeout }) => void (await tab.page.reload({ timeout })),
    back: async (tab, { timeout }) => void (await tab.page.goBack({ timeout })),
    forward: async (tab, { timeout }) => void (await tab.page.goForward({ timeout })),
    url: (tab) => tab.page.url(),
    title: (tab) => tab.page.title(),
    status: (tab) => tab.status,
    content: (tab) => tab.page.content(),

    click: (tab, { selector, timeout }) => tab.page.locator(selector).click({ timeout }),
    follow: async (tab, { selector, timeout }) => {
        const { page } = tab;
        const deadline = Date.now() + timeout;
        tab.status = 0;
        const moved = page.waitForEvent("framenavigated", {
            predicate: (frame) => frame === page.mainFrame(),
            timeout,
        });
        // A failed click ends the command first.
        moved.catch(() => {});
        await page.locator(selector).click({ timeout });
        await moved;
        await page.waitForLoadState("load", { timeout: Math.max(deadline - Date.now(), 1) });
        return tab.status;
    },
    hover: (tab, { selector, timeout }) => tab.page.locator(selector).hover({ timeout }),
    focus: (tab, { selector, timeout }) => tab.page.locator(selector).focus({ timeout }),
    fill: (tab, { selector, text, timeout }) => tab.page.locator(selector).fill(text, { timeout }),
    select: async (tab, { selector, option, timeout }) =>
        void (await tab.page.locator(selector).selectOption(option, { timeout })),
    check: (tab, { selector, on, timeout }) => tab.page.locator(selector).setChecked(on, { timeout }),
    press: (tab, { selector, key, timeout }) => tab.page.locator(selector).press(key, { timeout }),
    press_key: (tab, { key }) => tab.page.keyboard.press(key),

    text: async (tab, { selector, timeout }) => (await tab.page.locator(selector).innerText({ timeout })).trim(),
    texts: async (tab, { selector }) =>
        (await tab.page.locator(selector).allInnerTexts()).map((text) => text.trim()),
    value: (tab, { selector, timeout }) => tab.page.locator(selector).inputValue({ timeout }),
    attribute: (tab, { selector, name, timeout }) => tab.page.locator(selector).getAttribute(name, { timeout }),
    count: (tab, { selector }) => tab.page.locator(selector).count(),
    visible: async (tab, { selector }) => (await tab.page.locator(selector).filter({ visible: true }).count()) > 0,
    evaluate: async (tab, { expression }) => (await tab.page.evaluate(expression)) ?? null,

    wait_for: (tab, { selector, timeout }) =>
        until("it to be visible", timeout, async () => {
            const elements = tab.page.locator(selector);
            const visible = await elements.filter({ visible: true }).count();
            return visible > 0 ? { found: null } : { state: `${await elements.count()} elements, all hidden` };
        }),
    wait_until_gone: (tab, { selector, timeout }) =>
        until("it to be gone", timeout, async () => {
            const visible = await tab.page.locator(selector).filter({ visible: true }).count();
            return visible === 0 ? { found: null } : { state: `${visible} visible elements` };
        }),
    wait_for_text: (tab, { selector, text, timeout }) =>
        until(JSON.stringify(text), timeout, async () => {
            const texts = await tab.page.locator(selector).allInnerTexts();
            return texts.some((one) => one.includes(text)) ? { found: null } : { state: JSON.stringify(texts) };
        }),
    wait_for_url: (tab, { text, timeout }) =>
        until(`a loaded page with ${JSON.stringify(text)} in its URL`, timeout, async () => {
            const url = tab.page.url();
            const state = await tab.page.evaluate("document.readyState");
            return url.includes(text) && state === "complete" ? { found: url } : { state: `${url}, ${state}` };
        }),
    wait_until: (tab, { expression, timeout }) =>
        until(`${cut(expression)} to be true`, timeout, async () => {
            const value = await tab.page.evaluate(expression);
            return value ? { found: value } : { state: String(JSON.stringify(value)) };
        }),

    resize: (tab, { width, height }) => tab.page.setViewportSize({ width, height }),
    screenshot: async (tab, { path, whole, timeout }) =>
        void (await tab.page.screenshot({ path, fullPage: whole, animations: "disabled", timeout })),

    cookies: async (tab) =>
        (await tab.context.cookies()).map(({ name, value, domain, path, expires, httpOnly, secure, sameSite }) => ({
            name,
            value,
            domain,
            path,
            expires,
            http_only: httpOnly,
            secure,
            same_site: sameSite,
        })),
    set_cookie: (tab, { url, name, value }) => tab.context.addCookies([{ url, name, value }]),
    clear_cookies: (tab) => tab.context.clearCookies(),

    answer_dialogs: (tab, { accept }) => void (tab.accepts_dialogs = accept),
    dialogs: (tab) => tab.dialogs.splice(0),

    accessibility,
    scrolls_sideways: (tab) => tab.page.evaluate(widest, ENTRIES),
    problems: async (tab) => {
        await settle(tab);
        const problems = tab.problems;
        tab.problems = noProblems();
        return problems;
    },
};

async function run(command) {
    if (command.do === "open") return open(command);
    const act = commands[command.do];
    if (!act) throw new Error(`there is no command ${command.do}`);
    return act(find(command.tab), command);
}

async function describe(command, error) {
    const lines = [error.message.replaceAll("\x1b", "").replace(/\[\d+m/g, "")];
    if (command.selector) lines.push(`selector: ${command.selector}`);
    const tab = tabs.get(command.tab);
    if (tab) {
        lines.push(`URL: ${tab.page.url()}`);
        const text = () => within(DESCRIBED_WITHIN, "the page", tab.page.evaluate("document.body?.innerText ?? ''"));
        // The page may just have been replaced.
        const visible = await text().catch(text).catch((failed) => `(${failed.message})`);
        lines.push(`visible text: ${cut(visible.trim())}`);
        const problems = Object.entries(tab.problems).filter(([, list]) => list.length > 0);
        for (const [name, list] of problems) lines.push(`${name}: ${list.slice(0, 5).join("; ")}`);
    }
    return lines.join("\n");
}

function say(answer) {
    process.stdout.write(`${JSON.stringify(answer)}\n`);
}

async function answer(command) {
    try {
        const value = await within(command.timeout + GRACE, `the command ${command.do}`, run(command));
        say({ id: command.id, value: value ?? null });
    } catch (error) {
        say({ id: command.id, error: await describe(command, error) });
    }
}

const input = createInterface({ input: process.stdin });
input.on("line", (line) => void answer(JSON.parse(line)));
// Playwright then kills Chromium and removes its files.
input.on("close", () => process.exit(0));
say({ id: 0, value: browser.version() });

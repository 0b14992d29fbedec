// Drives a browser over the page. See README.md.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "15" } },
});
const [binary] = positionals;
if (!binary) {
  console.error("usage: npm run check -- PATH/TO/sse-server [--seconds N]");
  process.exit(2);
}
const SHOTS = new URL("shots/", import.meta.url).pathname;
const PATIENCE_MS = 30_000;
const HOSTILE = [
  "<img src=x onerror=\"window.pwned = 1\">",
  "\"><script>window.pwned = 1</script>",
  "</td></tr><svg onload=window.pwned=1>",
  "javascript:window.pwned=1//${window.pwned=1}",
  "\u202Egpj.exe, a very long-name-that-must-not-break-the-table-0123456789",
];

/** How the page writes them: what turns the direction of the text is spelt out. */
const listed = (names) => names.map((name) => name.replace("\u202E", "\\u{202e}"));

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function start(port, ...flags) {
  const child = spawn(binary, ["--port", port, ...flags], { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, RUST_LOG: "error" } });
  await once(child.stdout, "data");
  return async () => {
    if (child.exitCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  };
}

/** A client that never reads. */
async function stuck(port, session) {
  const socket = connect(port, "127.0.0.1");
  socket.pause();
  socket.on("error", () => {});
  socket.write(`GET /events/${encodeURIComponent(session)} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await once(socket, "connect");
  return socket;
}

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--force-color-profile=srgb"],
});

/** A page of which every error, and every request to elsewhere, is written down. */
async function open(port, features = {}, viewport = { width: 1280, height: 900 }) {
  const page = await browser.newPage();
  page.faults = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) page.faults.push(message.text());
  });
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`http://127.0.0.1:${port}/`) && !url.startsWith("data:")) page.faults.push(`request to ${url}`);
  });
  await page.setViewport({ deviceScaleFactor: 1, ...viewport });
  await page.emulateMediaFeatures(Object.entries(features).map(([name, value]) => ({ name, value })));
  await page.goto(`http://127.0.0.1:${port}/`, { waitUntil: "load" });
  await live(page);
  return page;
}

const live = (page) => page.waitForFunction(() => document.getElementById("status").dataset.state === "live" && document.querySelector("#len-chart path"), { timeout: PATIENCE_MS });
/** When the page shows a view that is later. */
async function caughtUp(page, { uptime_ms }) {
  await page.waitForFunction((n) => view.uptime_ms > n, { timeout: PATIENCE_MS }, uptime_ms);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
const shown = (page, name) => page.$eval(`[data-show="${name}"]`, (node) => node.textContent);
const cells = (page, selector) => page.$$eval(`${selector} tr`, (rows) => rows.map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent)));
const integer = (n) => new Intl.NumberFormat("en").format(n);

async function check(name, work) {
  await work();
  console.log(`ok: ${name}`);
}

const port = await freePort();
const url = (path) => `http://127.0.0.1:${port}${path}`;
const publish = (session, body = "x") => fetch(url(`/publish/${encodeURIComponent(session)}`), { method: "POST", body });
const snapshot = async () => (await fetch(url("/api/snapshot"))).json();

let stop = async () => {};
try {
  await mkdir(SHOTS, { recursive: true });
  stop = await start(port, "--capacity", "100", "--buffer", "1");
  const page = await open(port);

  await check("it updates by itself", async () => {
    assert.equal(await shown(page, "len"), "0");
    for (let n = 0; n < 150; n += 1) await publish(`one-off-${n}`);
    await page.waitForFunction(() => document.querySelector('[data-show="len"]').textContent === "100", { timeout: PATIENCE_MS });
    assert.equal(await shown(page, "filled"), "100 %");
  });

  await check("hostile names are text", async () => {
    const sockets = [];
    const large = "x".repeat(16_000);
    for (const [n, name] of HOSTILE.entries()) {
      sockets.push(await stuck(port, name));
      while ((await snapshot()).clients < sockets.length) await sleep(20);
      for (let dropped = 0; dropped < 20 * (n + 1);) dropped += (await (await publish(name, large)).json()).dropped;
    }
    await caughtUp(page, await snapshot());
    const names = await page.$$eval("#top bdi", (nodes) => nodes.map((node) => node.textContent));
    assert.deepEqual(names, listed(HOSTILE.toReversed()));
    assert.equal(await page.$$eval("#top bdi *, #top img, #top script, #top svg", (nodes) => nodes.length), 0);
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    await page.screenshot({ path: `${SHOTS}hostile.png`, fullPage: true });
    page.sockets = sockets;
  });

  await check("its numbers are those of /api/snapshot", async () => {
    // Nothing is published any more; a view later the page has the last of it.
    const { len, capacity, counted, totals, stats, top, uptime_ms, clients } = await snapshot();
    await caughtUp(page, { uptime_ms });
    assert.equal(await shown(page, "len"), integer(len));
    assert.equal(await shown(page, "capacity"), integer(capacity));
    assert.equal(await shown(page, "clients"), integer(clients));
    assert.equal(await shown(page, "counted"), integer(counted.drops + counted.no_client));
    const row = (lives, name) => [lives, integer(totals.drops[name]), integer(totals.no_client[name])];
    assert.deepEqual(await cells(page, "#ledger"), [
      row(integer(len), "live"),
      row(integer(stats.evicted), "evicted"),
      row(integer(stats.expired), "expired"),
      row(integer(stats.removed), "removed"),
      row("–", "rejected"),
    ]);
    assert.deepEqual(await cells(page, "#sums"), [
      row(integer(stats.admitted), "recorded"),
      ["", integer(counted.drops), integer(counted.no_client)],
    ]);
    assert.equal(totals.drops.recorded, counted.drops);
    assert.equal(totals.no_client.recorded, counted.no_client);
    const rows = top.map(({ session, drops, no_client }) => [...listed([session]), "", integer(drops), integer(no_client)]);
    assert.deepEqual(await cells(page, "#top"), rows);
    assert.ok(stats.evicted >= 50 && top.length === HOSTILE.length);
  });
  assert.deepEqual(page.faults, []);

  await check("it says that the server is gone, and comes back by itself", async () => {
    page.sockets.forEach((socket) => socket.destroy());
    await stop();
    await page.waitForFunction(() => document.getElementById("status").dataset.state === "lost", { timeout: PATIENCE_MS });
    assert.equal(await page.$eval("#notice", (node) => node.hidden), false);
    await page.screenshot({ path: `${SHOTS}lost.png` });
    await sleep(3000);
    stop = await start(port, "--capacity", "100", "--buffer", "1");
    await live(page);
    assert.match(await page.$eval("#notice", (node) => node.textContent), /restarted/);
    await publish("after");
    await page.waitForFunction(() => document.querySelector('[data-show="len"]').textContent === "1", { timeout: PATIENCE_MS });
    assert.equal(await shown(page, "counted"), "1");
    await page.screenshot({ path: `${SHOTS}back.png` });
    // The browser itself reports the connections that failed, and nothing else may be there.
    assert.deepEqual(page.faults.filter((fault) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET/.test(fault)), []);
  });
  await page.close();
  await stop();

  stop = await start(port, "--demo");
  const pages = {
    light: await open(port, { "prefers-color-scheme": "light" }),
    dark: await open(port, { "prefers-color-scheme": "dark" }),
    phone: await open(port, { "prefers-color-scheme": "light" }, { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true }),
    "phone-dark": await open(port, { "prefers-color-scheme": "dark", "prefers-reduced-motion": "reduce" }, { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true }),
  };
  await sleep(Number(values.seconds) * 1000);
  for (const [name, page] of Object.entries(pages)) {
    await check(`${name}: fits, can be read, without a fault`, async () => {
      await page.bringToFront();
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 1200))));
      const { wide, low } = await page.evaluate(() => {
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
          const hex = style.getPropertyValue(`--${name}`).trim();
          const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
        const tones = ["ink", "muted", "live", "evicted", "expired", "removed", "rejected", "unbounded", "good"];
        const low = tones.flatMap((tone) => ["surface", "ground"].map((on) => [tone, on, contrast(tone, on)])).filter(([, , ratio]) => ratio < 4.5);
        return { wide: document.scrollingElement.scrollWidth - innerWidth, low };
      });
      assert.ok(wide <= 0, `${wide} pixels too wide`);
      assert.deepEqual(low, []);
      await page.screenshot({ path: `${SHOTS}${name}.png`, fullPage: true });
      assert.deepEqual(page.faults, []);
    });
  }
  await check("motion is reduced where that is wished", async () => {
    const animation = (page) => page.$eval("#status", (node) => getComputedStyle(node, "::before").animationName);
    assert.equal(await animation(pages["phone-dark"]), "none");
    assert.equal(await animation(pages.light), "beat");
  });
  await check("a chart says what it was, where one points", async () => {
    await pages.light.bringToFront();
    const box = await (await pages.light.$("#memory-chart")).boundingBox();
    await pages.light.mouse.move(box.x + box.width * 0.97, box.y + box.height / 2);
    await pages.light.waitForFunction(() => document.querySelector("#len-legend .when").textContent.includes(":"), { timeout: PATIENCE_MS });
    await pages.light.screenshot({ path: `${SHOTS}pointed.png`, fullPage: true });
  });
  await stop();
} finally {
  await browser.close();
  await stop();
}
console.log(`screenshots are in ${SHOTS}`);

// Chromium without a network: whatever a page asks of another host is refused and counted, and so is every complaint.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const places = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const screenshots = fileURLToPath(new URL('screenshots/', import.meta.url));

export class Browser {
  /** What must not be: requests to other hosts, errors of the console and of scripts, answers that were not expected. */
  faults = [];
  #chromium;
  #origin;

  static async start(origin) {
    const executablePath = places.find((place) => place && existsSync(place));
    assert.ok(executablePath, 'there is no Chromium: install it, or name it in CHROMIUM');
    // Not even a name is looked up, should something pass by the routes below, as a WebSocket does.
    const args = ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', '--disable-quic', '--disable-gpu'];
    const browser = new Browser();
    browser.#chromium = await chromium.launch({ executablePath, args });
    browser.#origin = origin;
    mkdirSync(screenshots, { recursive: true });
    return browser;
  }

  /** A new page with nothing remembered. */
  async page(options = {}) {
    const context = await this.#chromium.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    context.setDefaultTimeout(15_000);
    const socketOrigin = this.#origin.replace(/^http/, 'ws');
    await context.route('**/*', (route) => {
      const url = route.request().url();
      if (url.startsWith(`${this.#origin}/`) || /^(data|blob):/.test(url)) return route.continue();
      this.faults.push(`asks outside: ${url}`);
      return route.abort();
    });
    const page = await context.newPage();
    page.on('websocket', (socket) => {
      if (!socket.url().startsWith(`${socketOrigin}/`)) this.faults.push(`opens a socket outside: ${socket.url()}`);
    });
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.faults.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.faults.push(`script: ${error}`));
    page.on('response', (response) => {
      if (response.status() >= 400) this.faults.push(`${response.status()} ${response.url()}`);
    });
    return page;
  }

  /** Takes a picture, to be looked at. */
  async picture(page, name) {
    // The playground is as large as its window.
    const fullPage = !page.url().includes('/playground');
    await page.screenshot({ path: `${screenshots}${name}.png`, fullPage });
  }

  close() {
    return this.#chromium.close();
  }
}

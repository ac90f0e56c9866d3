/* <hongyan-verify site-key="hys_…" scene="login" lang="en"></hongyan-verify>
 *
 * Proves that whoever sits here can read what is sent to a number. One script, nothing else: no framework, no build, no
 * cookie. The page hears `hongyan:verified` with a proof in its detail; its own server redeems that proof, once. What is
 * sent, what is kept and which Content-Security-Policy this needs is written in docs/widget.md.
 *
 * What a page may not do to us, or we to it: everything stands in a shadow root; styles are constructed sheets and
 * pictures are painted on a canvas, so that neither `unsafe-inline` nor `data:` has to be allowed.
 */
(() => {
  "use strict";

  const HERE = document.currentScript ? new URL(document.currentScript.src) : location;
  const KEPT = "hongyan-verify"; // in sessionStorage: which verification this tab is at, never a code or a number
  const DEVICE = "hongyan-device"; // in localStorage: a random word by which limits know this browser
  const ASK_WAIT_MS = 20_000;
  const TURNS_MAX = 8; // challenges in a row for one code
  const SLICE = 4_000; // numbers tried on the main thread between two turns of the page

  // ── words ──────────────────────────────────────────────────────────────────────────────────────────────

  const WORDS = {
    en: {
      title: "Verify your number",
      country: "Country or region",
      number: "Phone number",
      numberHint: "We send a code to it by text message.",
      send: "Send code",
      code: "Code",
      codeHint: "The {digits} characters of the text message sent to {to}. They are checked as soon as all are there.",
      check: "Verify",
      resend: "Send again",
      resendIn: "Send again in {seconds} s",
      other: "Use another number",
      working: "One moment: making sure that no machine asks …",
      sending: "Sending …",
      checking: "Checking …",
      sent: "A code is on its way to {to}.",
      sentAgain: "The code was sent to {to} once more.",
      done: "Verified.",
      puzzle: "Push the piece into the gap",
      picture: "A picture with a gap, and a piece that belongs there. It can be skipped with the button “Without the picture”.",
      place: "Place of the piece",
      placed: "{left} of {most}",
      confirm: "It fits",
      instead: "Without the picture",
      insteadHint: "This device works for a while instead, some seconds to a minute.",
      needNumber: "Enter a phone number.",
      needCode: "Enter all {digits} characters of the code.",
      wrong: "This code is wrong or no longer valid.",
      triesOne: "One try is left.",
      triesMany: "{tries} tries are left.",
      triesNone: "No try is left: send a new code.",
      expired: "The code is no longer valid. Send a new one.",
      lost: "No connection. Try again.",
      wait: "Try again in {wait}.",
      seconds: "{n} s",
      minutes: "{n} min",
      codes: {
        "Number.Invalid": "This is no number that can receive text messages.",
        "Number.RegionNotAllowed": "Codes are not sent to this country.",
        "Number.TestOnly": "Only test numbers can be used here.",
        "Verify.MediumDisabled": "No code can be sent just now. Try another number, or try again later.",
        "Verify.TooManySends": "Codes were asked for too often. One that was sent before is still valid.",
        "Verify.Suspected": "Codes are not sent to such numbers just now.",
        "Verify.Budget": "No more codes are sent for today.",
        "Verify.ChallengeFailed": "That did not fit. Here is another one.",
        "Verify.FactorRequired": "There were too many wrong codes for this number. Prove who you are in another way.",
        "Verify.OriginDenied": "This page is not among the origins of its site key.",
        "Verify.Ended": "This verification has ended. Send a new code.",
        "Auth.KeyNotFound": "The site key of this page does not exist or is switched off.",
      },
      failed: "That did not work. Try again later. ({code})",
    },
    zh: {
      title: "验证手机号",
      country: "国家或地区",
      number: "手机号",
      numberHint: "我们会向该号码发送一条短信验证码。",
      send: "获取验证码",
      code: "验证码",
      codeHint: "请输入发送至 {to} 的 {digits} 位验证码，输入完整后自动验证。",
      check: "验证",
      resend: "重新发送",
      resendIn: "{seconds} 秒后可重新发送",
      other: "更换手机号",
      working: "正在进行安全检查，请稍候…",
      sending: "正在发送…",
      checking: "正在验证…",
      sent: "验证码已发送至 {to}。",
      sentAgain: "验证码已再次发送至 {to}。",
      done: "验证成功。",
      puzzle: "拖动滑块，将拼图移到缺口处",
      picture: "一张带缺口的图片和一块拼图。可使用“不用图片验证”按钮跳过。",
      place: "拼图位置",
      placed: "{left}，共 {most}",
      confirm: "完成拼图",
      instead: "不用图片验证",
      insteadHint: "改由本设备计算完成，约需几秒到一分钟。",
      needNumber: "请输入手机号。",
      needCode: "请输入完整的 {digits} 位验证码。",
      wrong: "验证码不正确或已失效。",
      triesOne: "还可尝试 1 次。",
      triesMany: "还可尝试 {tries} 次。",
      triesNone: "尝试次数已用完，请重新获取验证码。",
      expired: "验证码已失效，请重新获取。",
      lost: "网络连接失败，请重试。",
      wait: "请在 {wait} 后重试。",
      seconds: "{n} 秒",
      minutes: "{n} 分钟",
      codes: {
        "Number.Invalid": "该号码无法接收短信，请检查。",
        "Number.RegionNotAllowed": "暂不支持向该国家或地区发送验证码。",
        "Number.TestOnly": "此处只能使用测试号码。",
        "Verify.MediumDisabled": "暂时无法发送验证码，请更换手机号或稍后再试。",
        "Verify.TooManySends": "获取验证码过于频繁，已发送的验证码仍然有效。",
        "Verify.Suspected": "暂时无法向此类号码发送验证码。",
        "Verify.Budget": "今日验证码已达上限。",
        "Verify.ChallengeFailed": "未通过，请再试一次。",
        "Verify.FactorRequired": "该号码输错验证码次数过多，请改用其他方式验证身份。",
        "Verify.OriginDenied": "当前网页不在站点密钥的来源白名单中。",
        "Verify.Ended": "本次验证已结束，请重新获取验证码。",
        "Auth.KeyNotFound": "网页的站点密钥不存在或已停用。",
      },
      failed: "操作失败，请稍后再试。（{code}）",
    },
  };

  const filled = (text, values = {}) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));

  // ── the proof of work ──────────────────────────────────────────────────────────────────────────────────

  /* Find the number whose SHA-256 behind the salt is the challenge (ALTCHA, protocol version 1). It stands in one function
   * that knows nothing around it, because a worker is made of its text. Blocks that the number does not touch are hashed
   * once; of the rest only the words are compared. crypto.subtle would take a promise for each number, and is not there
   * on a page without TLS.
   */
  function miner() {
    const K = new Int32Array(64), START = new Int32Array(8); // signed: what is written as a small integer stays fast
    let prime = 2;
    for (let n = 0; n < 64; prime++) {
      let is = true;
      for (let d = 2; d * d <= prime; d++) if (prime % d === 0) { is = false; break; }
      if (!is) continue;
      K[n] = ((Math.cbrt(prime) % 1) * 0x100000000) | 0;
      if (n < 8) START[n] = ((Math.sqrt(prime) % 1) * 0x100000000) | 0;
      n++;
    }
    const W = new Int32Array(64);
    function block(state, octets, at) { // FIPS 180-4 section 6.2.2
      for (let i = 0; i < 16; i++, at += 4)
        W[i] = (octets[at] << 24) | (octets[at + 1] << 16) | (octets[at + 2] << 8) | octets[at + 3];
      for (let i = 16; i < 64; i++) {
        const x = W[i - 15], y = W[i - 2];
        const s = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const t = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        W[i] = (W[i - 16] + s + W[i - 7] + t) | 0;
      }
      let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
      for (let i = 0; i < 64; i++) {
        const p = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
        const one = (h + p + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
        const q = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
        const two = (q + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        h = g; g = f; f = e; e = (d + one) | 0; d = c; c = b; b = a; a = (one + two) | 0;
      }
      state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e; state[5] += f; state[6] += g; state[7] += h;
    }
    return function begin(salt, challenge) {
      const octets = new TextEncoder().encode(salt), whole = octets.length - (octets.length % 64);
      const before = new Int32Array(START), state = new Int32Array(8), tail = new Uint8Array(128);
      for (let at = 0; at < whole; at += 64) block(before, octets, at);
      tail.set(octets.subarray(whole));
      const rest = octets.length - whole, wanted = new Int32Array(8);
      for (let i = 0; i < 8; i++) wanted[i] = parseInt(challenge.slice(i * 8, i * 8 + 8), 16);
      return function tryOut(from, to) { // returns the number, or -1
        for (let number = from; number < to; number++) {
          const digits = String(number);
          let length = rest;
          for (let i = 0; i < digits.length; i++) tail[length++] = digits.charCodeAt(i);
          const blocks = length + 9 > 64 ? 2 : 1, end = blocks * 64, bits = (whole + length) * 8;
          tail.fill(0, length, end);
          tail[length] = 0x80;
          for (let i = 0; i < 4; i++) tail[end - 1 - i] = bits >>> (8 * i);
          state.set(before);
          for (let i = 0; i < blocks; i++) block(state, tail, i * 64);
          if (state[0] === wanted[0] && state[1] === wanted[1] && state.every((word, i) => word === wanted[i])) return number;
        }
        return -1;
      };
    };
  }

  const WORKER = `"use strict"; const begin = (${miner})();
    onmessage = ({ data: { salt, challenge, most } }) => {
      const tryOut = begin(salt, challenge);
      for (let from = 0; from <= most; from += 20000) {
        const found = tryOut(from, Math.min(from + 20000, most + 1));
        if (found >= 0) { postMessage({ found }); return; }
        postMessage({ share: from / most });
      }
      postMessage({ found: -1 });
    };`;

  /* Solve a challenge in a worker or, where the page's policy allows none, here, in slices. Rejects when it was aborted. */
  async function solve(challenge, signal, share) {
    const work = { salt: challenge.salt, challenge: challenge.challenge, most: challenge.maxNumber };
    let number = await inWorker(work, signal, share);
    if (number === null) number = await inSlices(work, signal, share);
    if (number < 0) throw new Error("no number solves it");
    const { algorithm, salt, signature } = challenge;
    return btoa(JSON.stringify({ algorithm, challenge: challenge.challenge, number, salt, signature }));
  }

  /* Where a page demands trusted types, a worker's address has to come from a policy; the page has to allow ours by name. */
  let policy;
  function trusted(address) {
    policy ??= window.trustedTypes?.createPolicy("hongyan-verify", { createScriptURL: (own) => own });
    return policy ? policy.createScriptURL(address) : address;
  }

  function inWorker(work, signal, share) { // resolves with null where there can be no worker
    return new Promise((resolve, reject) => {
      let worker, address;
      const end = (settle, value) => {
        worker?.terminate();
        if (address) URL.revokeObjectURL(address);
        signal.removeEventListener("abort", stopped);
        settle(value);
      };
      const stopped = () => end(reject, signal.reason);
      if (signal.aborted) return reject(signal.reason);
      signal.addEventListener("abort", stopped);
      try {
        address = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
        worker = new Worker(trusted(address));
      } catch {
        return end(resolve, null);
      }
      worker.onerror = (event) => { event.preventDefault(); end(resolve, null); };
      worker.onmessage = ({ data }) => ("found" in data ? end(resolve, data.found) : share(data.share));
      worker.postMessage(work);
    });
  }

  async function inSlices({ salt, challenge, most }, signal, share) {
    const tryOut = miner()(salt, challenge), channel = new MessageChannel();
    for (let from = 0; from <= most; from += SLICE) {
      signal.throwIfAborted();
      const found = tryOut(from, Math.min(from + SLICE, most + 1));
      if (found >= 0) return found;
      share(from / most);
      await new Promise((resolve) => { channel.port1.onmessage = resolve; channel.port2.postMessage(0); });
    }
    return -1;
  }

  // ── what is asked of the server ────────────────────────────────────────────────────────────────────────

  class Refused extends Error {
    constructor(answer) {
      super(answer.code);
      this.code = answer.code;
      this.detail = answer.detail ?? {};
      this.wait = answer.retry_after ?? 0;
    }
  }

  async function ask(base, siteKey, deed, body, signal) {
    const bound = new AbortController(), stop = () => bound.abort(signal.reason);
    const timer = setTimeout(() => bound.abort(new DOMException("no answer", "TimeoutError")), ASK_WAIT_MS);
    signal.addEventListener("abort", stop);
    try {
      const answer = await fetch(new URL(`/v1/widget/${encodeURIComponent(siteKey)}/${deed}`, base), {
        method: "POST",
        mode: "cors",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        cache: "no-store",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal: bound.signal,
      });
      const said = await answer.json();
      if (!answer.ok) throw new Refused(said);
      return said.data;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    }
  }

  /* Storage may be forbidden, full or somebody else's: then this tab forgets, and works all the same. */
  const storage = (where) => ({
    read(name) { try { return JSON.parse(window[where].getItem(name)); } catch { return null; } },
    write(name, value) { try { window[where].setItem(name, JSON.stringify(value)); } catch { /* as above */ } },
    forget(name) { try { window[where].removeItem(name); } catch { /* as above */ } },
  });
  const tab = storage("sessionStorage"), browser = storage("localStorage");

  function device() {
    let word = browser.read(DEVICE);
    if (typeof word !== "string" || !/^[0-9a-f]{32}$/.test(word)) {
      word = Array.from(crypto.getRandomValues(new Uint8Array(16)), (octet) => octet.toString(16).padStart(2, "0")).join("");
      browser.write(DEVICE, word);
    }
    return word;
  }

  // ── how it looks ───────────────────────────────────────────────────────────────────────────────────────

  const STYLE = new CSSStyleSheet();
  STYLE.replaceSync(`
    :host { display: block; max-width: 22rem; color-scheme: light dark; --accent: var(--hongyan-accent, #0b5cad);
      --on-accent: var(--hongyan-on-accent, #fff); --ink: #1b1f24; --soft: #4d5560; --line: #767f8a; --ground: #fff;
      --bad: #b3261e; --good: #17673a; font: 1rem/1.5 system-ui, "PingFang SC", "Microsoft YaHei", sans-serif; color: var(--ink); }
    @media (prefers-color-scheme: dark) { :host(:not([theme=light])) { --accent: var(--hongyan-accent-dark, #8ec5ff);
      --on-accent: var(--hongyan-on-accent-dark, #06223d); --ink: #eceff3; --soft: #b9c1cb; --line: #8b95a1; --ground: #16191d;
      --bad: #ffb4ab; --good: #8fd8a8; } }
    :host([theme=dark]) { color-scheme: dark; --accent: var(--hongyan-accent-dark, #8ec5ff); --on-accent: var(--hongyan-on-accent-dark, #06223d);
      --ink: #eceff3; --soft: #b9c1cb; --line: #8b95a1; --ground: #16191d; --bad: #ffb4ab; --good: #8fd8a8; }
    :host([theme=light]) { color-scheme: light; }
    :host([hidden]) { display: none; }
    .box { background: var(--ground); padding: 1rem; border-radius: .5rem; }
    h2 { font-size: 1.125rem; margin: 0 0 .75rem; }
    form { display: grid; gap: .75rem; margin: 0; }
    label { display: block; font-weight: 600; margin-bottom: .25rem; }
    select, input:not([type=range]), button { font: inherit; box-sizing: border-box; width: 100%; min-height: 2.75rem;
      padding: .5rem .75rem; border-radius: .375rem; border: 1px solid var(--line); background: var(--ground); color: var(--ink); }
    input[type=range] { width: 100%; margin: 0; min-height: 2.75rem; accent-color: var(--accent); }
    input.code { letter-spacing: .3em; font-variant-numeric: tabular-nums; font-size: 1.25rem; }
    button { cursor: pointer; font-weight: 600; }
    button.main { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
    button:disabled { cursor: default; color: var(--soft); background: var(--ground); border-style: dashed; border-color: var(--line); }
    :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
    /* Side by side only where the countdown has room for its whole text, so that nothing moves as it runs. */
    .row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); gap: .5rem; }
    .again { font-variant-numeric: tabular-nums; }
    .hint, .said { color: var(--soft); font-size: .875rem; margin: .25rem 0 0; }
    .said:empty, .bad:empty { display: none; }
    .bad { color: var(--bad); font-weight: 600; margin: .25rem 0 0; }
    .good { color: var(--good); font-weight: 600; margin: 0; }
    [aria-invalid=true] { border-color: var(--bad); border-width: 2px; }
    .picture { position: relative; overflow: hidden; border-radius: .25rem; touch-action: none; }
    canvas { display: block; width: 100%; height: auto; }
    canvas.piece { position: absolute; }
    progress { width: 100%; accent-color: var(--accent); }
    @media (prefers-reduced-motion: no-preference) { button { transition: background-color .15s, color .15s; } }
    @media (forced-colors: active) { button:disabled { color: GrayText; } }
  `);

  /* Make an element: made("p", {class: "hint"}, "text", another). No markup is ever read from a text. */
  function made(name, attributes = {}, ...inside) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(key, value);
      else if (value !== false && value != null) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...inside.filter((each) => each != null));
    return element;
  }

  async function painted(canvas, uri) {
    const octets = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (each) => each.charCodeAt(0));
    const kind = uri.slice(5, uri.indexOf(";"));
    const picture = await createImageBitmap(new Blob([octets], { type: kind }));
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
  }

  // ── the element ────────────────────────────────────────────────────────────────────────────────────────

  class HongyanVerify extends HTMLElement {
    static observedAttributes = ["site-key", "scene", "lang"];
    static formAssociated = true; // with a `name`, a form around it sends the proof under that name

    #internals = this.attachInternals();
    #root = this.attachShadow({ mode: "open" });
    #title = made("h2", { id: "title" });
    #content = made("div");
    #said = made("p", { class: "said", role: "status", "aria-live": "polite" });
    #bad = made("p", { class: "bad", role: "alert", id: "bad" });
    #box = made("section", { class: "box", "aria-labelledby": "title" }, this.#title, this.#content, this.#said, this.#bad);
    #life = new AbortController(); // ends with the element's stay in the page, or with its site key
    #step = new AbortController(); // ends with the step it is at
    #settings = null;
    #at = null; // the verification: handle, to, digits, tries, and when by this clock it may be sent again and ends
    #number = { country: "", typed: "" };
    #clock = 0;

    constructor() {
      super();
      this.#root.adoptedStyleSheets = [STYLE];
      this.#root.append(this.#box);
    }

    connectedCallback() {
      this.#begin();
    }

    disconnectedCallback() {
      this.#life.abort();
      this.#step.abort();
      clearInterval(this.#clock);
    }

    attributeChangedCallback(name, before, now) {
      if (!this.isConnected || before === now) return;
      if (name !== "lang") this.#begin();
      else if (!("busy" in this.#box.dataset)) this.#draw(); // else with the next step: nobody loses a puzzle half done
    }

    get scene() { return this.getAttribute("scene") || "login"; }

    get #words() {
      const wanted = this.closest('[lang]:not([lang=""])')?.lang || navigator.language || "en";
      return /^zh\b/i.test(wanted) ? WORDS.zh : WORDS.en;
    }

    get #lang() { return this.#words === WORDS.zh ? "zh" : "en"; }

    get #base() { return this.getAttribute("base") || HERE.origin; }

    #ask(deed, body) {
      return ask(this.#base, this.getAttribute("site-key") ?? "", deed, body, this.#life.signal);
    }

    async #begin() {
      this.#life.abort();
      this.#life = new AbortController();
      const life = this.#life.signal;
      this.#settings = null;
      this.#at = this.#kept();
      this.#internals.setFormValue(null);
      this.#draw();
      try {
        const settings = await this.#ask("settings", { scene: this.scene });
        if (life.aborted) return;
        this.#settings = settings;
        this.#number.country ||= this.#country(settings.countries);
        if (this.#at) return;
        this.#draw(this.#root.activeElement !== null);
        this.#ask("opened", { scene: this.scene }).catch(() => {}); // it is only counted
      } catch (error) {
        this.#fail(error, life);
        const main = this.#root.querySelector("button.main");
        if (main && !life.aborted) main.disabled = false; // it asks once more
      }
    }

    #country(countries) {
      const wanted = (this.getAttribute("country") ?? "").toUpperCase();
      return (countries.find((each) => each.code === wanted) ?? countries[0])?.code ?? "";
    }

    // what this tab remembers

    #kept() {
      const kept = tab.read(KEPT);
      const same = kept?.siteKey === this.getAttribute("site-key") && kept?.scene === this.scene;
      return same && kept.endsAt > Date.now() ? kept : null;
    }

    #keep() {
      if (this.#at) tab.write(KEPT, this.#at);
      else tab.forget(KEPT);
    }

    #started(answer) {
      const now = Date.now();
      this.#at = {
        siteKey: this.getAttribute("site-key"),
        scene: this.scene,
        verification: answer.verification,
        to: answer.to,
        digits: answer.digits,
        letters: answer.letters,
        tries: answer.tries_left,
        againAt: now + answer.resend_in_s * 1000,
        endsAt: now + answer.expires_in_s * 1000,
      };
      this.#keep();
    }

    #forget(focus) {
      this.#at = null;
      this.#keep();
      this.#draw(focus);
    }

    focus(options) {
      (this.#root.querySelector("[data-first]") ?? this.#root.querySelector("button"))?.focus(options);
    }

    // what is shown

    #draw(focus = false) {
      this.#step.abort();
      this.#step = new AbortController();
      clearInterval(this.#clock);
      this.#say("");
      const inside = this.#at?.proof ? this.#drawDone() : this.#at ? this.#drawCode() : this.#drawNumber();
      this.#box.setAttribute("lang", this.#lang === "zh" ? "zh-CN" : "en");
      this.#title.textContent = this.#words.title;
      this.#content.replaceChildren(inside);
      if (focus) this.focus();
    }

    #drawNumber() {
      const w = this.#words, countries = this.#settings?.countries ?? [];
      const names = new Intl.DisplayNames([this.#lang === "zh" ? "zh-CN" : "en"], { type: "region" });
      const shown = ({ code, calling }) => `${names.of(code)} +${calling}`;
      const order = [...countries].sort((a, b) => names.of(a.code).localeCompare(names.of(b.code), this.#lang));
      const select = made("select", { id: "country", autocomplete: "country", change: (e) => { this.#number.country = e.target.value; } },
        ...order.map((each) => made("option", { value: each.code }, shown(each))));
      if (order.some((each) => each.code === this.#number.country)) select.value = this.#number.country;
      else if (order.length) this.#number.country = select.value;
      const input = made("input", {
        id: "number", type: "tel", inputmode: "tel", autocomplete: "tel-national", required: true, maxlength: 24,
        "aria-describedby": "hint bad", "data-first": true, input: (e) => { this.#number.typed = e.target.value; },
      });
      input.value = this.#number.typed;
      return made("form", { novalidate: true, submit: (e) => { e.preventDefault(); this.#send(); } },
        made("div", {}, made("label", { for: "country" }, w.country), select),
        made("div", {}, made("label", { for: "number" }, w.number), input, made("p", { class: "hint", id: "hint" }, w.numberHint)),
        made("button", { class: "main", type: "submit", disabled: !this.#settings }, w.send));
    }

    #drawCode() {
      const w = this.#words, at = this.#at;
      const input = made("input", {
        id: "code", class: "code", type: "text", inputmode: at.letters ? "text" : "numeric", autocomplete: "one-time-code", required: true,
        spellcheck: "false", autocapitalize: "characters", "aria-describedby": "hint bad", "data-first": true,
        input: (e) => { if (this.#typed(e.target).length === at.digits) this.#check(); },
      });
      const again = made("button", { type: "button", class: "again", click: () => this.#resend() });
      const other = made("button", { type: "button", click: () => this.#forget(true) }, w.other);
      const tick = () => {
        const left = Math.max(0, Math.ceil((at.againAt - Date.now()) / 1000));
        again.disabled = left > 0 || "busy" in this.#box.dataset;
        again.textContent = left > 0 ? filled(w.resendIn, { seconds: left }) : w.resend;
        if (Date.now() >= at.endsAt && !at.over) {
          at.over = true;
          this.#complain(w.expired);
        }
      };
      tick();
      this.#clock = setInterval(tick, 500);
      this.#listen();
      return made("form", { novalidate: true, submit: (e) => { e.preventDefault(); this.#check(); } },
        made("div", {}, made("label", { for: "code" }, w.code), input,
          made("p", { class: "hint", id: "hint" }, filled(w.codeHint, { digits: at.digits, to: at.to }))),
        made("button", { class: "main", type: "submit" }, w.check),
        made("div", { class: "row" }, again, other));
    }

    #drawDone() {
      return made("p", { class: "good", tabindex: -1, "data-first": true }, this.#words.done);
    }

    #say(text) {
      this.#bad.textContent = "";
      this.#said.textContent = text;
      this.#root.querySelectorAll("[aria-invalid]").forEach((each) => each.removeAttribute("aria-invalid"));
    }

    #complain(text, field) {
      this.#said.textContent = "";
      this.#bad.textContent = text;
      if (field) {
        const input = this.#root.getElementById(field);
        input?.setAttribute("aria-invalid", "true");
        input?.focus();
      }
    }

    #fail(error, life) {
      if (life.aborted) return;
      const w = this.#words;
      if (!(error instanceof Refused)) return this.#complain(w.lost);
      if (error.code === "Verify.Ended") this.#forget(true);
      const wait = error.wait ? ` ${filled(w.wait, { wait: this.#span(error.wait) })}` : "";
      const field = error.code.startsWith("Number.") ? "number" : undefined;
      this.#complain((w.codes[error.code] ?? filled(w.failed, { code: error.code })) + wait, field);
    }

    #span(seconds) {
      const w = this.#words;
      return seconds < 90 ? filled(w.seconds, { n: seconds }) : filled(w.minutes, { n: Math.ceil(seconds / 60) });
    }

    /* Do something that takes a while, once at a time: buttons wait, and what goes wrong is said. */
    async #busy(text, work) {
      if ("busy" in this.#box.dataset) return;
      const life = this.#life.signal;
      this.#box.dataset.busy = "";
      this.#box.setAttribute("aria-busy", "true");
      const main = this.#root.querySelector("button.main");
      if (main) main.disabled = true;
      this.#say(text);
      try {
        await work(life);
      } catch (error) {
        this.#fail(error, life);
      } finally {
        delete this.#box.dataset.busy;
        this.#box.removeAttribute("aria-busy");
        const now = this.#root.querySelector("button.main");
        if (now) now.disabled = false;
      }
    }

    // what is done

    #e164() {
      const typed = this.#number.typed.normalize("NFKC").replace(/[\s().·-]/g, "");
      if (!/^(\+|00)?\d{4,20}$/.test(typed)) return "";
      if (typed.startsWith("+")) return typed;
      if (typed.startsWith("00")) return `+${typed.slice(2)}`;
      const country = this.#settings?.countries.find((each) => each.code === this.#number.country);
      return country ? `+${country.calling}${typed}` : "";
    }

    #send() {
      if (!this.#settings) return this.#begin();
      const number = this.#e164();
      if (!number) return this.#complain(this.#words.needNumber, "number");
      return this.#busy(this.#words.working, async (life) => {
        const wish = { number, scene: this.scene, language: this.#lang === "zh" ? "zh-CN" : "en", device: device() };
        const { challenge } = await this.#ask("challenge", { number, scene: this.scene });
        this.#started(await this.#through("start", wish, challenge));
        if (life.aborted) return;
        this.#number.typed = "";
        this.#draw(true);
        this.#say(filled(this.#words.sent, this.#at));
        this.#tell("hongyan:sent", { to: this.#at.to, scene: this.scene });
      });
    }

    #resend() {
      return this.#busy(this.#words.working, async (life) => {
        const { verification } = this.#at;
        this.#started(await this.#through("resend", { verification, device: device() }, null));
        if (life.aborted) return;
        this.#draw(true);
        this.#say(filled(this.#words.sentAgain, this.#at));
        this.#tell("hongyan:sent", { to: this.#at.to, scene: this.scene });
      });
    }

    /* Ask for a code; do what stands before it, a work or a puzzle, until it comes or is refused for good. */
    async #through(path, wish, challenge) {
      let complaint = "";
      for (let turn = 0; turn < TURNS_MAX; turn++) {
        const answer = challenge ? await this.#answer(challenge, complaint) : undefined;
        this.#say(this.#words.sending);
        try {
          return await this.#ask(path, answer ? { ...wish, challenge: answer } : wish);
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          if (error.code === "Verify.ChallengeRequired" && error.detail.challenge) challenge = error.detail.challenge;
          else if (error.code === "Verify.ChallengeFailed" && challenge) {
            if (challenge.kind === "slider") complaint = this.#words.codes[error.code];
            challenge = null; // the next answer brings another one
          } else throw error;
        }
      }
      throw new Refused({ code: "Verify.ChallengeFailed" });
    }

    async #answer(challenge, complaint) {
      if (challenge.kind === "slider") return this.#puzzle(challenge, complaint);
      this.#say(this.#words.working);
      return solve(challenge, this.#life.signal, () => {});
    }

    /* Show a puzzle in place of the form, and bring the form back. Its work is done while somebody pushes. */
    async #puzzle(challenge, complaint) {
      const w = this.#words, form = this.#root.querySelector("form"), life = this.#life.signal;
      let puzzle;
      const working = new AbortController();
      life.addEventListener("abort", () => working.abort(), { once: true });
      const beside = solve(challenge.work, working.signal, () => {});
      beside.catch(() => {});
      const most = challenge.width - challenge.piece_size;
      const picture = made("canvas", { role: "img", "aria-label": w.picture }), piece = made("canvas", { class: "piece", "aria-hidden": "true" });
      const range = made("input", { type: "range", id: "place", min: 0, max: most, value: 0, step: 1, "aria-describedby": "bad", "data-first": true });
      const place = () => {
        piece.style.left = `${(100 * range.value) / challenge.width}%`;
        range.setAttribute("aria-valuetext", filled(w.placed, { left: range.value, most }));
      };
      piece.style.width = `${(100 * challenge.piece_size) / challenge.width}%`;
      piece.style.top = `${(100 * challenge.top) / challenge.height}%`;
      range.addEventListener("input", place);
      range.addEventListener("keydown", (event) => { // a key moves by one; with Shift, by ten
        if (!event.shiftKey || !/^Arrow/.test(event.key)) return;
        event.preventDefault();
        range.value = Number(range.value) + (/Right|Up/.test(event.key) ? 10 : -10);
        place();
      });
      place();
      await Promise.all([painted(picture, challenge.picture), painted(piece, challenge.piece)]);
      const share = made("progress", { max: 1, value: 0, "aria-label": w.working, hidden: true });
      try {
        return await new Promise((resolve, reject) => {
          life.addEventListener("abort", () => reject(life.reason), { once: true });
          const pushed = (event) => {
            event.preventDefault();
            const left = Number(range.value);
            this.#say(w.working);
            beside.then((work) => resolve(btoa(JSON.stringify({ token: challenge.token, left, work }))), reject);
          };
          const instead = () => {
            working.abort();
            share.hidden = false;
            puzzle.querySelectorAll("button, input").forEach((each) => { each.disabled = true; });
            this.#say(w.working);
            solve(challenge.instead, life, (done) => { share.value = done; }).then(resolve, reject);
          };
          puzzle = made("form", { novalidate: true, submit: pushed },
            made("div", { class: "picture" }, picture, piece),
            made("div", {}, made("label", { for: "place" }, w.puzzle), range),
            made("button", { class: "main", type: "submit" }, w.confirm),
            made("div", {}, made("button", { type: "button", class: "instead", "aria-describedby": "instead", click: instead }, w.instead),
              made("p", { class: "hint", id: "instead" }, w.insteadHint)),
            share);
          form.replaceWith(puzzle);
          this.#say("");
          if (complaint) this.#complain(complaint);
          range.focus();
        });
      } finally {
        working.abort();
        if (puzzle?.isConnected) puzzle.replaceWith(form); // unless all was drawn anew meanwhile
      }
    }

    #typed(input) {
      const plain = input.value.normalize("NFKC").replace(/\s/g, "");
      const code = (this.#at.letters ? plain.toUpperCase() : plain.replace(/\D/g, "")).slice(0, this.#at.digits);
      if (input.value !== code) input.value = code;
      return code;
    }

    #check() {
      const w = this.#words, at = this.#at, input = this.#root.getElementById("code");
      const code = this.#typed(input);
      if (code.length !== at.digits) return this.#complain(filled(w.needCode, at), "code");
      return this.#busy(w.checking, async (life) => {
        const answer = await this.#ask("check", { verification: at.verification, code, device: device() });
        if (life.aborted) return;
        if (answer.valid) return this.#verified(answer.proof);
        at.tries = Math.max(0, at.tries - 1);
        this.#keep();
        const left = at.tries === 0 ? w.triesNone : at.tries === 1 ? w.triesOne : filled(w.triesMany, at);
        input.value = "";
        this.#complain(`${w.wrong} ${left}`, "code");
      });
    }

    #verified(proof) {
      this.#at = { proof };
      tab.forget(KEPT);
      this.#internals.setFormValue(proof);
      this.#draw(true);
      this.#tell("hongyan:verified", { proof, scene: this.scene });
    }

    #tell(name, detail) {
      this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
    }

    /* Take the code from the text message itself, where the browser can (WebOTP) and the message says it is for this page. */
    #listen() {
      if (!("OTPCredential" in window) || !navigator.credentials) return;
      const signal = this.#step.signal;
      navigator.credentials.get({ otp: { transport: ["sms"] }, signal }).then((found) => {
        const input = this.#root.getElementById("code");
        if (!found || !input || signal.aborted) return;
        input.value = found.code;
        this.#check();
      }, () => {}); // nobody has to allow it
    }
  }

  if (!customElements.get("hongyan-verify")) customElements.define("hongyan-verify", HongyanVerify);
})();

// A client of clavigerd's agent API (docs/agent-api.md), over its Unix socket. Node 18 or newer,
// no dependency.
//
//     const claviger = new Claviger("/run/claviger/agent.sock");
//     const { generation } = await claviger.putState("memory", "what I know");
//     const { data } = await claviger.getState("memory");
//     await claviger.close();
import http from "node:http";
import { Readable } from "node:stream";

export const DEFAULT_SOCKET = process.env.CLAVIGER_SOCKET ?? "/run/claviger/agent.sock";

/** What the daemon refused, and why: its problem document (RFC 9457). */
export class Problem extends Error {
  constructor(status, document) {
    super(`${document.detail} (${document.code}, status ${status}, ` +
          `operation ${document.operation})`);
    this.name = "Problem";
    this.status = status;
    this.code = document.code;
    this.detail = document.detail;
    this.expected = document.expected;
    this.found = document.found;
    this.operation = document.operation;
  }
}

const generationOf = (answer) => Number((answer.headers.etag ?? '"0"').replaceAll('"', ""));

/** Which generation a receipt speaks of: the fifth item of its statement (docs/freshness.md). */
function generationOfReceipt(receipt) {
  const data = Buffer.from(receipt, "base64");
  let at = 0;
  const head = () => {
    const small = data[at++] & 31;
    if (small < 24) return small;
    const size = 1 << (small - 24);
    at += size;
    return size === 8 ? Number(data.readBigUInt64BE(at - 8)) : data.readUIntBE(at - size, size);
  };
  for (let i = 0; i < 3; i++) head(); // the record, its statement as bytes, the statement
  for (let i = 0; i < 4; i++) { // schema, kind, fleet, name
    const length = head();
    at += length;
  }
  return head();
}

async function readAll(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

export class Claviger {
  /** `key` may be left out when the policy has exactly one. receipts, where the policy's witness
   * works by them (docs/freshness.md): a Map that holds the init receipt as "init"; it learns the
   * others, and is the caller's to keep. */
  constructor(socketPath = DEFAULT_SOCKET,
              { key, timeout = 60000, receipts = new Map() } = {}) {
    this.receipts = receipts;
    this.socketPath = socketPath;
    this.key = key;
    this.timeout = timeout;
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
  }

  close() {
    this.agent.destroy();
  }

  // -- state: sealed in the enclave, kept by the parent ---------------------------------------

  /** generation: the one to replace, 0 for "there must be none", undefined for "whatever". */
  async putState(name, data, { generation, key } = {}) {
    const headers = {};
    if (generation === 0) headers["If-None-Match"] = "*";
    else if (generation !== undefined) headers["If-Match"] = `"${generation}"`;
    return this.#json("PUT", this.#state(name), { body: data, headers, query: { key } });
  }

  /** { data, generation }; a generation that is asked for must be the one that is stored. */
  async getState(name, { generation, key } = {}) {
    const answer = await this.openState(name, { generation, key });
    return { data: await readAll(answer), generation: generationOf(answer) };
  }

  /** The state as a readable stream. */
  async openState(name, { generation, key } = {}) {
    const headers = generation === undefined ? {} : { "If-Match": `"${generation}"` };
    return this.#send("GET", this.#state(name), { headers, query: { key } });
  }

  async deleteState(name, { generation, key } = {}) {
    const headers = generation === undefined ? {} : { "If-Match": `"${generation}"` };
    await readAll(await this.#send("DELETE", this.#state(name), { headers, query: { key } }));
  }

  /** [{ name, generation, sealed_size }], as the parent tells it. */
  async listStates(prefix, { key } = {}) {
    return (await this.#json("GET", "/v1/state", { query: { key, prefix } })).states;
  }

  // -- messages that the agent keeps itself ---------------------------------------------------

  /** data: a string, bytes, or a readable stream. */
  async seal(name, data, { key } = {}) {
    return readAll(await this.#send("POST", "/v1/seal", { body: data, query: { key, name } }));
  }

  async unseal(name, sealed, { key } = {}) {
    return readAll(await this.#send("POST", "/v1/unseal", { body: sealed, query: { key, name } }));
  }

  // -- derived keys ---------------------------------------------------------------------------

  /** of: { path, purpose, algorithm, length?, root_id? }; the answer's members are hex. */
  async deriveKey(of, { key } = {}) {
    return this.#post("/v1/keys/derive", of, key);
  }

  async publicKey(of, { key } = {}) {
    return this.#post("/v1/keys/public", of, key);
  }

  async sign(of, message, { key } = {}) {
    return this.#post("/v1/keys/sign",
                      { ...of, message: Buffer.from(message).toString("base64") }, key);
  }

  /** digest: 32 bytes. For p256 and secp256k1. */
  async signDigest(of, digest, { key } = {}) {
    return this.#post("/v1/keys/sign", { ...of, digest: Buffer.from(digest).toString("hex") }, key);
  }

  async hmac(of, message, { key } = {}) {
    const answer = await this.#post(
      "/v1/keys/hmac", { ...of, message: Buffer.from(message).toString("base64") }, key);
    return Buffer.from(answer.tag, "hex");
  }

  // -- the enclave ----------------------------------------------------------------------------

  /** An attestation document over the caller's nonce and report data, both optional bytes. */
  async attest({ nonce, reportData, key } = {}) {
    const body = {};
    if (nonce !== undefined) body.nonce = Buffer.from(nonce).toString("hex");
    if (reportData !== undefined) body.report_data = Buffer.from(reportData).toString("hex");
    return Buffer.from((await this.#post("/v1/attestation", body, key)).document, "base64");
  }

  async identity() {
    return this.#json("GET", "/v1/identity", {});
  }

  async ready() {
    try {
      await readAll(await this.#send("GET", "/readyz", {}));
      return true;
    } catch (problem) {
      if (problem instanceof Problem) return false;
      throw problem;
    }
  }

  // -- HTTP -----------------------------------------------------------------------------------

  #state(name) {
    return `/v1/state/${name.split("/").map(encodeURIComponent).join("/")}`;
  }

  #post(path, document, key) {
    return this.#json("POST", path, {
      body: JSON.stringify(document),
      headers: { "Content-Type": "application/json" },
      query: { key },
    });
  }

  async #json(method, path, options) {
    return JSON.parse(await readAll(await this.#send(method, path, options)));
  }

  /** What is known of this name, also when its key was said before and is not now. */
  #shown(receiptOf) {
    const what = (slot) => slot.slice(slot.indexOf(" ") + 1);
    // A list is held against all that is known.
    if (what(receiptOf) === "/v1/state") return [...this.receipts.values()].slice(0, 32);
    const shown = [...this.receipts].filter(([slot]) => what(slot) === what(receiptOf))
      .map(([, receipt]) => receipt).slice(0, 31);
    if (!this.receipts.has(receiptOf) && this.receipts.has("init"))
      shown.push(this.receipts.get("init"));
    return shown;
  }

  /** Answers of calls that ran at once come in any order: the newest receipt stays, and of one
   * generation the first, so that another branch is noticed. */
  #learn(receiptOf, receipt) {
    const known = this.receipts.get(receiptOf);
    if (known === undefined || generationOfReceipt(receipt) > generationOfReceipt(known))
      this.receipts.set(receiptOf, receipt);
  }

  async #send(method, path, { body, headers = {}, query = {} }) {
    if ("key" in query) query.key ??= this.key;
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const target = path + (given.length > 0 ? `?${new URLSearchParams(given)}` : "");
    const streams = body instanceof Readable;
    if (body !== undefined && !streams) {
      body = Buffer.from(body);
      headers["Content-Length"] = body.length;
    }
    const receiptOf = `${query.key ?? ""} ${path.startsWith("/v1/keys/") ? "root" : path}`;
    const shown = this.#shown(receiptOf);
    if (shown.length > 0) headers["Claviger-Receipt"] = shown.join(",");
    const answer = await new Promise((resolve, reject) => {
      const request = http.request({ socketPath: this.socketPath, path: target, method, headers,
                                     agent: this.agent, timeout: this.timeout }, resolve);
      request.on("timeout", () => request.destroy(new Error("clavigerd did not answer in time")));
      request.on("error", reject);
      if (streams) body.on("error", (error) => request.destroy(error)).pipe(request);
      else request.end(body);
    });
    const receipt = answer.headers["claviger-receipt"];
    if (receipt !== undefined) this.#learn(receiptOf, receipt);
    if (answer.statusCode < 400) return answer;
    const text = await readAll(answer);
    let document;
    try {
      document = JSON.parse(text);
    } catch {
      document = { code: "unknown", detail: text.toString() };
    }
    throw new Problem(answer.statusCode, document);
  }
}

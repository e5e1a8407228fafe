// The HTTP API (docs/openapi.yaml), through the console's own server.

import { search } from "./router.js";

// Problem is an answer that is not a success (RFC 9457), or no answer at all.
export class Problem extends Error {
  constructor({ title, detail = "", status = 0, code = "", retryAfter = "" }) {
    super(detail ? `${title}: ${detail}` : title);
    Object.assign(this, { title, detail, status, code, retryAfter });
  }

  // outage reports that the API as a whole does not work now, or not for us.
  get outage() {
    return this.status === 0 || this.status === 401 || this.status === 403 || this.status === 429 || this.status >= 500;
  }
}

// call returns {body, etag}. An aborted call throws the signal's AbortError.
async function call(method, path, { query, body, headers, signal } = {}) {
  const params = search(query ?? {});
  const url = `/v1/${path}${params.size ? `?${params}` : ""}`;
  let resp, text;
  try {
    resp = await fetch(url, {
      method, signal, cache: "no-store", credentials: "omit", redirect: "error",
      headers: { Accept: "application/json, application/problem+json", ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
      body: body ? JSON.stringify(body) : undefined,
    });
    text = await resp.text();
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Problem({ title: "The console does not answer", detail: "Is the command that serves this page still running?" });
  }
  if (resp.ok) {
    try {
      return { body: text ? JSON.parse(text) : null, etag: resp.headers.get("ETag") };
    } catch {
      throw new Problem({ title: "The answer is not the API's", detail: "It cannot be read as JSON.", status: resp.status });
    }
  }
  throw problem(resp, text);
}

function problem(resp, text) {
  const p = { title: resp.statusText || "The API refuses", status: resp.status, retryAfter: resp.headers.get("Retry-After") ?? "" };
  try {
    const said = JSON.parse(text);
    if (typeof said.code === "string") Object.assign(p, { title: said.title, detail: said.detail, code: said.code });
    else p.detail = said.message ?? said.Message ?? ""; // API Gateway's own
  } catch {
    p.detail = `HTTP ${resp.status}`;
  }
  return new Problem(p);
}

const get = async (path, query, signal) => (await call("GET", path, { query, signal })).body;
const post = async (path, options) => (await call("POST", path, options)).body;
const item = (id) => `dlq/items/${encodeURIComponent(id)}`;
const match = (etag) => (etag ? { "If-Match": etag } : {});

export const api = {
  sinks: (signal) => get("sinks", {}, signal),
  pause: (name, paused, signal) => post(`sinks/${encodeURIComponent(name)}/${paused ? "pause" : "resume"}`, { signal }),
  delivery: (sink, id, signal) => get("deliveries", { sink, id }, signal),
  cancelDelivery: async (sink, id, signal) => (await call("DELETE", "deliveries", { query: { sink, id }, signal })).body,
  // send delivers a message, or keeps it.
  send: (request, signal) => post("messages", { body: request, signal }),
  groups: (signal) => get("dlq/groups", {}, signal),
  noteGroup: (id, note, signal) => post(`dlq/groups/${encodeURIComponent(id)}/note`, { body: note, signal }),
  histogram: (query, signal) => get("dlq/histogram", query, signal),
  items: (query, signal) => get("dlq/items", query, signal),
  // item returns {body, etag}.
  item: (id, signal) => call("GET", item(id), { signal }),
  discard: (id, etag, signal) => call("DELETE", item(id), { headers: match(etag), signal }),
  replay: (id, options, etag, signal) => post(`${item(id)}/replay`, { body: options, headers: match(etag), signal }),
  unpark: (id, etag, signal) => post(`${item(id)}/unpark`, { headers: match(etag), signal }),
  operations: (limit, signal) => get("dlq/operations", { limit }, signal),
  operation: (id, signal) => get(`dlq/operations/${encodeURIComponent(id)}`, {}, signal),
  dryRun: (request, signal) => post("dlq/operations", { body: { ...request, dry_run: true }, signal }),
  // operate may be repeated with the same key: it is one operation.
  operate: (request, key, signal) => post("dlq/operations", { body: request, headers: { "Idempotency-Key": key }, signal }),
  resumeOperation: (id, signal) => post(`dlq/operations/${encodeURIComponent(id)}/resume`, { signal }),
  cancel: (id, signal) => post(`dlq/operations/${encodeURIComponent(id)}/cancel`, { signal }),
};

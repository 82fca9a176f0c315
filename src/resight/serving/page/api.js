// The server, by the endpoints of its HTTP surface. Whatever goes wrong is a Problem in plain words.

const PATIENCE = 120_000; // ms; the server's own deadline is much shorter, this is for a connection that hangs
const USUAL_WAIT = 2; // s, where a busy server does not say how long

const TITLES = {
  "-1": "This page made a mistake",
  0: "The server does not answer",
  400: "The server did not understand",
  404: "This is not there any more",
  408: "Sending took too long",
  413: "Too large",
  415: "Not a picture that can be read here",
  422: "This picture is damaged",
  429: "The server is busy",
  500: "The server made a mistake",
  503: "The server is not ready",
  504: "The server took too long",
};
const BUSY = new Set([429, 503, 504]);

// status: of HTTP, 0 where no answer came. wait: seconds until another try makes sense. request: its id, for the logs.
export class Problem extends Error {
  constructor(status, detail, { wait = 0, request = null } = {}) {
    super(detail);
    this.status = status;
    this.title = TITLES[status] ?? `The server answered with status ${status}`;
    this.detail = detail;
    this.wait = wait;
    this.request = request;
    this.gone = status === 0;
    this.busy = BUSY.has(status);
    this.retryable = this.gone || this.busy || status >= 500;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE), ...options });
  } catch {
    throw new Problem(0, "It may have been stopped, or the connection is gone.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Problem(response.status, typeof said.error === "string" ? said.error : "", {
    wait: waitOf(response),
    request: said.request_id ?? response.headers.get("X-Request-Id"),
  });
}

// Retry-After in seconds: a number, or a date (RFC 9110, section 10.2.3).
function waitOf(response) {
  if (!BUSY.has(response.status)) return 0;
  const said = response.headers.get("Retry-After");
  if (said === null) return USUAL_WAIT;
  const seconds = /^\d+$/.test(said.trim()) ? Number(said) : (Date.parse(said) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : USUAL_WAIT;
}

async function json(path, options) {
  const response = await ask(path, options);
  try {
    return await response.json();
  } catch {
    throw new Problem(0, "Its answer broke off.");
  }
}

function form(file, name) {
  const body = new FormData();
  body.append("file", file, name);
  return { method: "POST", body };
}

export async function models() {
  return (await json("/models")).models;
}

export function modelCard(name) {
  return json(`/models/${encodeURIComponent(name)}/card`);
}

// → { version, answer }: what `resight predict --json` writes for a picture.
export async function predict(model, file, name, top = 5) {
  const said = await json(`/predict?${new URLSearchParams({ model, top })}`, form(file, name));
  const answer = said.predictions[0];
  if (answer.error) throw new Problem(answer.status ?? 422, answer.error, { request: said.request_id });
  return { version: said.version, answer };
}

// → the heat map over the picture, as a Blob.
export async function explain(model, file, name, klass) {
  const response = await ask(`/explain?${new URLSearchParams({ model, class: klass })}`, form(file, name));
  return response.blob();
}

export async function isReady() {
  try {
    return (await fetch("/v2/health/ready", { cache: "no-store", signal: AbortSignal.timeout(5000) })).ok;
  } catch {
    return false;
  }
}

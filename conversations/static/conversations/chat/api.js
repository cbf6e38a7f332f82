// The way to the server: JSON requests of the signed-in user, and streams of events.

import { _ } from "./i18n.js";

/** What the template tells: who is signed in, and where things are. */
export const page = JSON.parse(document.getElementById("boot")?.textContent || "{}");
export const ROOT = "/backend-api/v2";

/** What the server, or the lack of it, answered. `status` 0: it was not reached. */
export class Failure extends Error {
  /** @param {string} message @param {number} status @param {string} code @param {any} body */
  constructor(message, status = 0, code = "", body = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.body = body;
  }
}

/** The cookie, not the page's copy: signing in again in another tab changes it. */
export function token() {
  const found = document.cookie.split("; ").find((item) => item.startsWith(`${page.csrfCookie}=`));
  return found ? found.slice(page.csrfCookie.length + 1) : "";
}

/**
 * @param {string} method
 * @param {string} path
 * @param {any} [body]
 * @param {RequestInit} [more]
 * @returns {Promise<Response>} a good one
 */
export async function request(method, path, body, more = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json", ...(method === "GET" ? {} : { "x-csrftoken": token() }) };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin", ...more,
    });
  } catch (error) {
    if (/** @type {any} */ (error).name === "AbortError") throw error;
    throw new Failure(_("The server was not reached."));
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const said = answer?.error?.message || _("The server answered {status}.", { status: response.status });
  throw new Failure(said, response.status, answer?.error?.code || "", answer);
}

/** @param {string} method @param {string} path @param {any} [body] */
export async function json(method, path, body) {
  return (await request(method, path, body)).json();
}

/** What reads streams is fetched with the first of them. */
export const reader = () => import("./sse.js");

/**
 * Sends a form and tells how much of it is sent, 0 to 1: `fetch` tells only of what comes back.
 * @param {string} path
 * @param {FormData} form
 * @param {(part: number) => void} sent
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export function upload(path, form, sent, signal) {
  return new Promise((resolve, reject) => {
    const way = new XMLHttpRequest();
    way.open("POST", path);
    way.responseType = "json";
    way.setRequestHeader("accept", "application/json");
    way.setRequestHeader("x-csrftoken", token());
    way.upload.onprogress = (event) => event.total && sent(event.loaded / event.total);
    way.upload.onload = () => sent(1);
    way.onerror = () => reject(new Failure(_("The server was not reached.")));
    way.onabort = () => reject(new DOMException("", "AbortError"));
    way.onload = () => {
      if (way.status < 300) return resolve(way.response);
      const said = way.response?.error;
      reject(new Failure(said?.message || _("The server answered {status}.", { status: way.status }), way.status, said?.code || "", way.response));
    };
    signal?.addEventListener("abort", () => way.abort());
    way.send(form);
  });
}

/**
 * The events of a stream, as they come.
 * @param {Response} response
 * @returns {AsyncGenerator<import("./sse.js").ServerEvent>}
 */
export async function* events(response) {
  if (!response.body) return;
  const { EventReader } = await reader();
  const read = new EventReader();
  const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await pieces.read();
      if (done) return;
      yield* read.push(value);
    }
  } finally {
    pieces.cancel().catch(() => {});
  }
}

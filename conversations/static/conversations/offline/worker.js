// The chat page's service worker: without a server it shows a page that says so, and files whose names have a hash are
// fetched once. It never keeps what is anybody's: no answer of the API, no media, no chat, no shared page.
//
// The server puts KEPT before this: {version, chat, shell, static, files, hashed}.

const NAME = `g4fsite-${KEPT.version}`;
const PAGE = new RegExp(`^${KEPT.chat}([0-9a-f-]{36}/)?$`);

/** Anew from the server, however fresh the browser holds its copy. */
async function fill() {
  const cache = await caches.open(NAME);
  await cache.addAll([new Request(KEPT.shell, { cache: "reload" }), ...KEPT.files]);
}

/** @param {Request | string} wanted */
const held = (wanted) => caches.match(wanted, { ignoreVary: true });

/** @param {string} [but] the one that stays */
async function forget(but) {
  for (const name of await caches.keys()) if (name.startsWith("g4fsite-") && name !== but) await caches.delete(name);
}

/** What the API answers, and how pages come that are not kept, does not wait for this script. */
async function route(event) {
  const past = ["/v1/*", "/backend-api/*", "/media/*", "/images/*", "/files/*", "/chat/share/*", "/chat/frame/*"];
  await event.addRoutes(past.map((pathname) => ({ condition: { urlPattern: { pathname } }, source: "network" })));
}

addEventListener("install", (event) => {
  // Not every browser has routes, and all works without.
  if (event.addRoutes) event.waitUntil(route(event).catch(() => {}));
  event.waitUntil(fill());
  skipWaiting();
});

addEventListener("activate", (event) => event.waitUntil(forget(NAME).then(() => clients.claim())));

// Signing out.
addEventListener("message", (event) => {
  if (event.data === "forget") event.waitUntil(forget());
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  if (request.mode === "navigate") {
    if (request.destination === "document" && PAGE.test(url.pathname)) visit(event);
  } else if (url.pathname.startsWith(KEPT.static)) event.respondWith(file(event));
});

/** The page itself comes from the server, always; where that is not reached, the shell does. */
function visit(event) {
  const answer = fetch(event.request);
  event.respondWith(answer.catch(async (error) => (await held(KEPT.shell)) ?? Promise.reject(error)));
  event.waitUntil(answer.then(settle).catch(() => {}));
}

/** Who is signed in has the shell, also after signing out and in again; a redirect means that nobody is. @param {Response} answer */
async function settle(answer) {
  if (answer.type === "opaqueredirect") await forget();
  else if (answer.ok && !(await held(KEPT.shell))) await fill();
}

/** @returns {Promise<Response>} */
async function file(event) {
  const known = await held(event.request);
  if (known && KEPT.hashed) return known;
  try {
    const answer = await fetch(event.request);
    if (KEPT.hashed && answer.status === 200) event.waitUntil(keep(event.request, answer.clone()));
    return answer;
  } catch (error) {
    if (known) return known;
    throw error;
  }
}

/** @param {Request} request @param {Response} answer */
async function keep(request, answer) {
  // After signing out nothing comes back before the shell does.
  if (await caches.has(NAME)) await (await caches.open(NAME)).put(request, answer);
}

// Figures, dates and names as the page shows them.

import { _, ngettext, region } from "./i18n.js";

/**
 * "$0.0325": four decimals below a dollar, two from there on; "free" for nothing.
 * @param {number | null | undefined} nano nano-dollars
 */
export function cost(nano) {
  if (nano === null || nano === undefined) return "";
  if (nano === 0) return _("free");
  const dollars = nano / 1e9;
  if (dollars < 0.0001) return "<$0.0001";
  return `$${dollars.toFixed(dollars < 1 ? 4 : 2)}`;
}

/** "6,318 in · 904 out". @param {any} usage */
export function tokens(usage) {
  if (!usage) return "";
  const told = (/** @type {number} */ count) => count.toLocaleString(region);
  const { prompt_tokens: asked, completion_tokens: said } = usage;
  return [asked && _("{count} in", { count: told(asked) }), said && _("{count} out", { count: told(said) })].filter(Boolean).join(" · ");
}

/** JSON on lines of its own, for who reads it; what is none as it is. @param {string} text */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text ?? "";
  }
}

/** "8.2 s", "1 min 5 s". @param {number} milliseconds */
export function seconds(milliseconds) {
  const all = milliseconds / 1000;
  if (all < 60) return _("{count} s", { count: all < 10 ? all.toFixed(1) : Math.round(all) });
  return _("{minutes} min {seconds} s", { minutes: Math.floor(all / 60), seconds: Math.round(all % 60) });
}

/** "10:41" of today, "14 Nov, 10:41" of other days. @param {string} date @param {Date} now */
export function time(date, now = new Date()) {
  const at = new Date(date);
  if (Number.isNaN(at.getTime())) return "";
  const clock = at.toLocaleTimeString(region, { hour: "2-digit", minute: "2-digit" });
  if (daysBetween(at, now) === 0) return clock;
  return `${at.toLocaleDateString(region, { day: "numeric", month: "short" })}, ${clock}`;
}

/** @param {Date} then @param {Date} now */
function daysBetween(then, now) {
  const midnight = (/** @type {Date} */ day) => new Date(day.getFullYear(), day.getMonth(), day.getDate()).getTime();
  return Math.round((midnight(now) - midnight(then)) / 86_400_000);
}

/**
 * Chats under headings by age, pinned ones first; the order inside stays.
 * @template {{pinned: boolean, updated_at: string}} Chat
 * @param {Chat[]} chats
 * @returns {{name: string, chats: Chat[]}[]}
 */
export function grouped(chats, now = new Date()) {
  /** @type {Map<string, Chat[]>} */
  const groups = new Map();
  for (const name of [_("Pinned"), _("Today"), _("Yesterday"), _("Last 7 days"), _("Last 30 days")]) groups.set(name, []);
  for (const chat of chats) {
    const name = chat.pinned ? _("Pinned") : age(new Date(chat.updated_at), now);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name)?.push(chat);
  }
  return [...groups].filter(([, found]) => found.length).map(([name, found]) => ({ name, chats: found }));
}

/**
 * Whether a chat is one of those that the list shows; the API says the same of these filters.
 * @param {any} chat
 * @param {Record<string, string>} filter
 */
export function belongs(chat, { folder, tag, archived = "false", deleted }) {
  if (chat.temporary || Boolean(chat.deleted_at) !== Boolean(deleted)) return false;
  if (archived !== "any" && chat.archived !== (archived === "true")) return false;
  return (folder === undefined || chat.folder === folder) && (tag === undefined || (chat.tags ?? []).includes(tag));
}

/** What the list shows, in a word. @param {Record<string, string>} filter */
export function shownName({ folder, tag, archived, deleted }) {
  return folder || tag || (deleted ? _("Bin") : archived === "true" ? _("Archive") : "");
}

/** @param {Date} then @param {Date} now */
function age(then, now) {
  const days = daysBetween(then, now);
  if (days <= 0) return _("Today");
  if (days === 1) return _("Yesterday");
  if (days < 7) return _("Last 7 days");
  if (days < 30) return _("Last 30 days");
  return then.toLocaleDateString(region, { month: "long", year: "numeric" });
}

/**
 * Two letters for a provider, set like an element.
 * @param {string} name
 */
export function symbol(name) {
  const letters = name.replace(/[^\p{L}\p{N}]/gu, "");
  return letters ? letters[0].toUpperCase() + (letters[1] ?? "").toLowerCase() : "?";
}

/**
 * @typedef {{id: string, provider: string, label: string, can: string[], context: number}} Model
 * `provider` empty: whoever has it answers.
 */

/**
 * The rows of the model picker from the two catalogues of the API: each model once, then again by provider where
 * several have it.
 * @param {any[]} models of /v1/models
 * @param {any[]} providers of /v1/providers
 * @returns {Model[]}
 */
export function choices(models, providers) {
  /** @type {Map<string, {name: string, label: string}[]>} */
  const having = new Map();
  for (const provider of providers) {
    for (const id of provider.models) {
      having.set(id, [...(having.get(id) ?? []), { name: provider.provider, label: provider.label }]);
    }
  }
  return models.filter((model) => !model.provider).flatMap((model) => {
    const can = ["vision", "tools", "image", "audio"].filter((flag) => model[flag]);
    const row = { id: model.id, provider: "", label: model.owned_by, can, context: model.context_length ?? 0 };
    const others = having.get(model.id) ?? [];
    if (others.length < 2) return [row];
    row.label = ngettext("{count} provider", "{count} providers", others.length);
    return [row, ...others.map(({ name, label }) => ({ ...row, provider: name, label }))];
  });
}

/** "128k". @param {number} context */
export function room(context) {
  if (!context) return "";
  return context >= 1_000_000 ? `${+(context / 1_000_000).toFixed(1)}M` : `${Math.round(context / 1000)}k`;
}

/**
 * Those in which every word is, in the id or the provider's name.
 * @param {Model[]} models
 * @param {string} words
 */
export function matching(models, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return models.filter((model) => {
    const text = `${model.id} ${model.label} ${model.provider} ${model.can.join(" ")}`.toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

/**
 * The messages of a tree for a list: each after what it follows, one step further in after each fork.
 * @param {any[]} nodes {id, parent, ...} in the order in which they came
 * @param {string} leaf the end of the branch that is shown
 * @returns {any[]} with `depth`, `shown` (on that branch) and `ends` (nothing follows)
 */
export function inOrder(nodes, leaf) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const below = new Map();
  for (const node of nodes) below.set(node.parent, [...(below.get(node.parent) ?? []), node]);
  const shown = new Set();
  for (let at = byId.get(leaf); at; at = byId.get(at.parent)) shown.add(at.id);
  const found = [];
  const waiting = (below.get(null) ?? []).map((/** @type {any} */ node) => ({ node, depth: 0 })).reverse();
  while (waiting.length) {
    const { node, depth } = waiting.pop();
    const next = below.get(node.id) ?? [];
    found.push({ ...node, depth, shown: shown.has(node.id), ends: !next.length });
    for (const child of [...next].reverse()) waiting.push({ node: child, depth: depth + Number(next.length > 1) });
  }
  return found;
}

/** What tells a model at a provider from all others. @param {{id: string, provider: string}} model */
export function modelKey(model) {
  return model.provider ? `${model.id}\t${model.provider}` : model.id;
}

/**
 * Favourites first, in the order in which they became that; the others stay in theirs.
 * @param {Model[]} models
 * @param {string[]} favourites by `modelKey`
 */
export function favoured(models, favourites) {
  const place = (/** @type {Model} */ model) => {
    const at = favourites.indexOf(modelKey(model));
    return at < 0 ? favourites.length : at;
  };
  return [...models].sort((a, b) => place(a) - place(b));
}

/** @type {Record<string, [number, number]>} */
export const BOUNDS = {
  temperature: [0, 2], top_p: [0, 1], max_tokens: [1, 10_000_000], frequency_penalty: [-2, 2], presence_penalty: [-2, 2],
  seed: [-(2 ** 53), 2 ** 53],
};
export const EFFORTS = ["none", "minimal", "low", "medium", "high"];

/**
 * Of a chat's settings those that go with each question. An import may have brought any.
 * @param {any} settings
 * @returns {Record<string, number | string>}
 */
export function parameters(settings) {
  /** @type {Record<string, number | string>} */
  const found = {};
  for (const [name, [least, most]] of Object.entries(BOUNDS)) {
    const value = settings?.[name];
    const whole = name !== "seed" && name !== "max_tokens" ? true : Number.isInteger(value);
    if (typeof value === "number" && whole && value >= least && value <= most) found[name] = value;
  }
  if (EFFORTS.includes(settings?.reasoning_effort)) found.reasoning_effort = settings.reasoning_effort;
  return found;
}

/**
 * The version before or after this one, or null at an end.
 * @param {{id: string, siblings?: string[]}} message
 * @param {number} step
 */
export function sibling(message, step) {
  const all = message.siblings ?? [];
  return all[all.indexOf(message.id) + step] ?? null;
}

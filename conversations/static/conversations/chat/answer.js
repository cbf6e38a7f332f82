// What an answer is made of, built from the events that tell it. Knows neither the page nor the network.

/**
 * @typedef {object} Answer
 * @property {number} last the number of the last event that was taken in
 * @property {string} text
 * @property {string} status what is done before the model is asked
 * @property {string} reasoning
 * @property {boolean} thinking
 * @property {{id: string, name: string, arguments: string}[]} tools
 * @property {{url: string, title: string}[]} sources
 * @property {string} provider
 * @property {string} model
 * @property {any} usage
 * @property {string} finish
 * @property {{message: string, code: string} | null} error
 * @property {string[]} passedOver what failed before somebody answered
 * @property {string} title a better title for the chat
 * @property {string} state empty while it goes on, then "done", "stopped", "interrupted" or "error"
 */

/** @returns {Answer} */
export function begun() {
  return {
    last: 0, status: "", text: "", reasoning: "", thinking: false, tools: [], sources: [], provider: "", model: "", usage: null,
    finish: "", error: null, passedOver: [], title: "", state: "",
  };
}

/**
 * Takes an event in. One that was taken already (a stream that was joined again repeats some) changes nothing.
 * @param {Answer} answer
 * @param {import("./sse.js").ServerEvent} event
 */
export function take(answer, event) {
  if (event.id && event.id <= answer.last) return;
  if (event.id) answer.last = event.id;
  const data = event.data;
  if (!data) return;
  TAKEN[data.type]?.(answer, data);
}

/** @type {Record<string, (answer: Answer, data: any) => void>} */
const TAKEN = {
  provider(answer, { provider }) {
    answer.provider = provider.label || provider.name;
    answer.model = provider.model || answer.model;
  },
  content(answer, { content }) {
    answer.thinking = false;
    answer.text += content ?? "";
  },
  reasoning(answer, { token, status }) {
    if (token === undefined) {
      answer.status = status ?? "";
      return;
    }
    answer.thinking = token !== null;
    answer.reasoning += token ?? "";
  },
  tool_calls(answer, { tool_calls }) {
    for (const piece of tool_calls) {
      const call = (answer.tools[piece.index] ??= { id: "", name: "", arguments: "" });
      call.id = piece.id || call.id;
      call.name += piece.function?.name ?? "";
      call.arguments += piece.function?.arguments ?? "";
    }
  },
  citation(answer, { citation }) {
    if (!answer.sources.some((source) => source.url === citation.url)) {
      answer.sources.push({ url: citation.url, title: citation.title || citation.url });
    }
  },
  usage(answer, { usage }) {
    answer.usage = usage;
  },
  finish(answer, { finish }) {
    answer.finish = finish.reason;
  },
  message(answer, { message }) {
    answer.passedOver.push(message);
  },
  title(answer, { title }) {
    answer.title = title;
  },
  error: failed,
  auth: failed,
  snapshot(answer, data) {
    answer.text = typeof data.content === "string" ? data.content : textOf(data.content);
    answer.reasoning = data.reasoning ?? "";
    answer.provider = data.provider || answer.provider;
    answer.model = data.model || answer.model;
    answer.usage = data.usage;
    answer.finish = data.finish_reason ?? "";
    answer.error = data.error ? { message: data.error.message, code: data.error.code ?? "" } : null;
  },
  end(answer, { state }) {
    answer.thinking = false;
    answer.state = state;
  },
};

/** @param {Answer} answer @param {any} data */
function failed(answer, { message, code }) {
  // The event's text begins with the name of the error's class, which is nothing to a reader.
  answer.error = { message: String(message).replace(/^\w+: /, ""), code: code ?? "" };
}

/**
 * The words of a message, whose content is a text or a list of parts.
 * @param {any} content
 * @returns {string}
 */
export function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (typeof part === "string" ? part : part?.text)).filter(Boolean).join("\n");
}

/**
 * The whole sentences of a text after `from`, for who hears it: [what to say, where to go on].
 * @param {string} text
 * @param {number} from
 * @returns {[string, number]}
 */
export function sentences(text, from) {
  const rest = text.slice(from);
  const end = Math.max(...[". ", "! ", "? ", ".\n", ":\n", "\n\n", "。"].map((mark) => {
    const at = rest.lastIndexOf(mark);
    return at < 0 ? -1 : at + mark.length;
  }));
  if (end < 0) return ["", from];
  return [rest.slice(0, end).replace(/[`*_#>|]+/g, "").replace(/\s+/g, " ").trim(), from + end];
}

/**
 * Sends requests by fetch() (WHATWG Fetch), in browsers, workers and Node.
 *
 * The platform follows redirects, and checks certificates. For a page of another origin the server
 * must allow the headers Range and If-Match, and show ETag and Content-Range (CORS, WHATWG Fetch
 * §3.3).
 */
import type { Send } from './exchange.js';

/** @param credentials whether cookies and logins of the browser are sent to another origin */
export function fetchSender(credentials: RequestCredentials): Send {
  return async (url, { headers, receive, endBy }) => {
    const ending = new AbortController();
    endBy((reason) => ending.abort(reason));
    // A cache of the browser could keep parts of another version.
    const answer = await fetch(url, { headers, credentials, cache: 'no-store', signal: ending.signal });
    try {
      const { status, body, headers: found } = answer;
      const sink = receive({ url: answer.url, status, header: (name) => found.get(name) ?? undefined });
      const reader = body?.getReader();
      for (let part = await reader?.read(); part && !part.done; part = await reader!.read()) sink.take(part.value);
    } catch (error) {
      ending.abort(error);
      throw error;
    }
  };
}

// Work that the API does one by one, driven by this page: it ends when the page does.

import { api, Problem } from "./api.js";

const AT_ONCE = 4;
const PAGE = 200;

// idsOf yields the ids of a scope, {ids} or {filter}.
export async function* idsOf(scope, signal) {
  if (scope.ids) {
    yield* scope.ids;
    return;
  }
  let cursor = "";
  do {
    const page = await api.items({ ...scope.filter, limit: PAGE, cursor }, signal);
    for (const item of page.items) yield item.id;
    cursor = page.next_cursor;
  } while (cursor);
}

// drive calls each for every id, some at once, until all are done, signal is aborted, or
// the API as a whole refuses. each returns "done" or "failed". It returns the counts
// {done, failed, skipped, stopped (the problem that ended it), example (a failure)}.
export async function drive(ids, each, { signal, onprogress }) {
  const counts = { done: 0, failed: 0, skipped: 0, stopped: null, example: null };
  const worker = async () => {
    while (!signal.aborted && !counts.stopped) {
      try {
        const next = await ids.next();
        if (next.done) return;
        const { outcome, error } = await each(next.value);
        counts[outcome]++;
        counts.example ??= error ?? null;
      } catch (err) {
        if (signal.aborted) return;
        if (!(err instanceof Problem) || err.outage || err.status === 400) {
          counts.stopped ??= err;
          return;
        }
        counts[err.status === 404 || err.status === 409 ? "skipped" : "failed"]++;
        counts.example ??= `${err.message} (${err.code || err.status})`;
      }
      onprogress(counts);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return counts;
}

/** Metadata contexts of the target ([NBD] "Metadata querying"): which there are, and which a client's queries choose. */
import { baseAllocation, sessionContext } from '../spec.js';
import { isSessionId } from './sessions.js';

/** Metadata contexts that a client chose: number of each, or undefined. */
export interface ChosenContexts {
  readonly allocation: number | undefined;
  readonly session: number | undefined;
}

export const noContexts: ChosenContexts = { allocation: undefined, session: undefined };
const allocationId = 1;
const sessionId = 2;

/** Names that queries of NBD_OPT_LIST_META_CONTEXT match; without queries, all. */
export function listedContexts(queries: readonly string[]): string[] {
  const known = [
    { name: baseAllocation, namespace: 'base:' },
    { name: sessionContext, namespace: 'farbus:' },
  ];
  const matching = known.filter(
    ({ name, namespace }) => queries.length === 0 || queries.includes(name) || queries.includes(namespace),
  );
  return matching.map(({ name }) => name);
}

/** What queries of NBD_OPT_SET_META_CONTEXT choose, and the session that is named in them. */
export function chooseContexts(queries: readonly string[]): { chosen: ChosenContexts; session: string | undefined } {
  const allocation = queries.includes(baseAllocation) ? allocationId : undefined;
  const session = queries
    .filter((query) => query.startsWith(sessionContext))
    .map((query) => query.slice(sessionContext.length))
    .find(isSessionId);
  return { chosen: { allocation, session: session === undefined ? undefined : sessionId }, session };
}

/** Number and name of each chosen context, as a client is told. @param state Of the export's sessions. */
export function contextNames(
  { allocation, session }: ChosenContexts,
  sessionName: string | undefined,
  state: string,
): [id: number, name: string][] {
  const names: [number, string][] = [];
  if (allocation !== undefined) names.push([allocation, baseAllocation]);
  if (session !== undefined && sessionName !== undefined) {
    names.push([session, `${sessionContext}${sessionName}/${state}`]);
  }
  return names;
}

/**
 * An HTTP server that takes the place of a Debian archive. It answers as a test tells it, and
 * records the requests.
 */
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll } from 'vitest';

/** The bytes of a file, or a function that answers the request. */
export type Answer = Uint8Array | ((response: ServerResponse) => void);

export interface TestArchive {
  /** "http://127.0.0.1:PORT" */
  readonly url: string;
  /** Files by path, with a leading slash. Other paths are answered with 404. */
  readonly files: Map<string, Answer>;
  /** The paths of all requests so far. */
  readonly asked: string[];
  close(): Promise<void>;
}

const open = new Set<TestArchive>();
afterAll(async () => {
  for (const archive of open) await archive.close();
});

export async function startArchive(files: Record<string, Answer> = {}): Promise<TestArchive> {
  const asked: string[] = [];
  const answers = new Map(Object.entries(files));
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    const answer = answers.get(path);
    if (answer === undefined) response.writeHead(404).end();
    else if (typeof answer === 'function') answer(response);
    else response.end(answer);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const archive: TestArchive = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    files: answers,
    asked,
    close: async () => {
      open.delete(archive);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  open.add(archive);
  return archive;
}

/** Runs `action`, which must fail. Resolves with the error. */
export async function failure(action: Promise<unknown>): Promise<Error> {
  const error = await action.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error('this should have failed');
  return error;
}

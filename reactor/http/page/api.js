// Asks the server. Every answer of ours is {"return": ...}, or an error of one line.

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const session = {
  user: "",
  perms: {},
  // Whether this kind of permission was granted at all; the server decides about each case.
  may(kind) {
    return Boolean(this.perms[kind]?.length);
  },
};

const hooks = { loggedOut: () => {}, reached: () => {} };

export function onSession(callbacks) {
  Object.assign(hooks, callbacks);
}

export async function ask(path, body) {
  const options = { headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    hooks.reached(false);
    throw new ApiError(0, "the server does not answer");
  }
  hooks.reached(true);
  const said = await answer.json().catch(() => ({ return: `${answer.status} ${answer.statusText}` }));
  if (answer.ok) return said;
  if (answer.status === 401 && path !== "/login") hooks.loggedOut();
  throw new ApiError(answer.status, String(said.return));
}

export async function first(path, body) {
  return (await ask(path, body)).return[0];
}

// Who is there: a token, or a user and a password.

import { byId, h } from "./dom.js";
import { ask, session } from "./api.js";

export function showLogin(message, done) {
  const token = h("input", { id: "token", type: "password", autocomplete: "off" });
  const user = h("input", { id: "user", autocomplete: "username" });
  const password = h("input", { id: "password", type: "password", autocomplete: "current-password" });
  const said = h("p", { class: "problem", role: "alert", hidden: !message }, message);
  const form = (title, credentials, ...content) =>
    h(
      "form",
      {
        class: "card",
        onsubmit: async (event) => {
          event.preventDefault();
          try {
            await ask("/login", credentials());
            done();
          } catch (error) {
            said.textContent = error.message;
            said.hidden = false;
          }
        },
      },
      h("h2", {}, title),
      content,
      h("button", { type: "submit", class: "first" }, "Log in"),
    );
  byId("main").replaceChildren(
    h(
      "div",
      { class: "login" },
      said,
      form(
        "With a token",
        () => ({ token: token.value.trim() }),
        h("label", {}, "Token", token),
        h(
          "p",
          { class: "note" },
          "Made on the master by ",
          h("code", {}, "reactor token create --all"),
          "; without --all it may only watch.",
        ),
      ),
      form(
        "With a password",
        () => ({ username: user.value, password: password.value }),
        h("label", {}, "User", user),
        h("label", {}, "Password", password),
      ),
    ),
  );
  token.focus();
}

export async function whoami() {
  const found = (await ask("/login")).return[0];
  session.user = found.user;
  session.perms = found.perms;
  return found;
}

// Redeems the code of a link that was mailed: `/account#verify-email=…` or `/account#reset-password=…`. Nothing happens
// until the button is pressed, because programs that look at mails open links, too.
"use strict";

const REQUESTS = {
  "verify-email": { path: "/v1/email-verifications/confirmations", done: "Thank you: the address is confirmed." },
  "reset-password": { path: "/v1/password-resets/confirmations", done: "Your password is set. Log in with it now." },
};

const [purpose, code] = location.hash.slice(1).split("=");
const request = REQUESTS[purpose];
// The code stays neither in the address line nor in the history.
history.replaceState(null, "", location.pathname);

function tell(text, failed) {
  const outcome = document.getElementById("outcome");
  outcome.textContent = text;
  outcome.classList.toggle("failed", failed);
}

async function redeem(event) {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  const password = event.target.querySelector("input")?.value;
  try {
    const answer = await fetch(request.path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(password === undefined ? { code } : { code, password }),
    });
    if (answer.ok) {
      event.target.remove();
      tell(request.done, false);
      return;
    }
    const problem = await answer.json();
    const faults = (problem.errors ?? []).map(({ pointer, detail }) => `${pointer === "#/code" ? "This link" : "The password"} ${detail}.`);
    tell(faults.join(" ") || `That did not work: ${problem.detail}.`, true);
  } catch {
    tell("The server cannot be reached. Try again in a moment.", true);
  }
  button.disabled = false;
}

if (request && code) {
  document.getElementById("nothing").hidden = true;
  const section = document.getElementById(purpose);
  section.hidden = false;
  section.querySelector("form").addEventListener("submit", redeem);
}

// Redeems the code of a link that was mailed: `/account#verify-email=…` or `/account#reset-password=…`. Nothing happens
// until the button is pressed, because programs that look at mails open links, too.
"use strict";

const REQUESTS = {
  "verify-email": { path: "/v1/email-verifications/confirmations", done: "Thank you: the address is confirmed." },
  "reset-password": { path: "/v1/password-resets/confirmations", done: "Your password is set. Log in with it now." },
};

function tell(text, failed) {
  const outcome = document.getElementById("outcome");
  outcome.textContent = text;
  outcome.classList.toggle("failed", failed);
}

async function redeem(form, request, code) {
  const button = form.querySelector("button");
  button.disabled = true;
  const password = form.querySelector("input")?.value;
  try {
    const answer = await fetch(request.path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(password === undefined ? { code } : { code, password }),
    });
    if (answer.ok) {
      form.hidden = true;
      tell(request.done, false);
    } else {
      tell(inWords(await answer.json()), true);
    }
  } catch {
    tell("The server cannot be reached. Try again in a moment.", true);
  }
  button.disabled = false;
}

function inWords(problem) {
  const faults = (problem.errors ?? []).map(
    ({ pointer, detail }) => `${pointer === "#/code" ? "This link" : "The password"} ${detail}.`,
  );
  return faults.join(" ") || `That did not work: ${problem.detail}.`;
}

function begin() {
  const [purpose, code] = location.hash.slice(1).split("=");
  const request = REQUESTS[purpose];
  // The code stays neither in the address line nor in the history.
  history.replaceState(null, "", location.pathname);
  for (const section of document.querySelectorAll("section")) section.hidden = true;
  tell("", false);
  if (!request || !code) {
    document.getElementById("nothing").hidden = false;
    return;
  }
  const section = document.getElementById(purpose);
  const form = section.querySelector("form");
  section.hidden = form.hidden = false;
  form.onsubmit = (event) => {
    event.preventDefault();
    redeem(form, request, code);
  };
}

begin();
// Another link, opened in the same tab.
addEventListener("hashchange", begin);

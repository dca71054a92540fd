// What htmx leaves to us on pages that ask for a list again: to say aloud what was found, and that no answer came.
"use strict";

const announced = document.getElementById("announced");
const offline = document.getElementById("offline");

function failed() {
  offline.hidden = false;
}

document.addEventListener("htmx:error", failed);
document.addEventListener("htmx:response:error", failed);
document.addEventListener("htmx:after:request", (event) => {
  offline.hidden = event.detail.ctx.response.status < 400;
});
document.addEventListener("htmx:after:swap", () => {
  const found = document.querySelector("#results .summary, #results .refusal")?.textContent.trim() ?? "";
  // What is the same is not said again.
  if (announced.textContent !== found) {
    announced.textContent = found;
  }
});

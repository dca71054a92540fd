// What htmx leaves to us on the page of servers: to say aloud what was found, and that no answer came.
"use strict";

const announced = document.getElementById("announced");
const offline = document.getElementById("offline");

function failed() {
  offline.hidden = false;
}

document.addEventListener("htmx:error", failed);
document.addEventListener("htmx:response:error", failed);
document.addEventListener("htmx:after:swap", () => {
  offline.hidden = true;
  announced.textContent = document.querySelector("#results .summary, #results .refusal")?.textContent.trim() ?? "";
});

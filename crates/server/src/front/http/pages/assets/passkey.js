// Passkeys: what browsers give to scripts alone. Everything else on these pages works without this file.
"use strict";

(() => {
  const bytes = (text) => Uint8Array.from(
    atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  // From and to the JSON of WebAuthn Level 3, section 5.1; not every browser has its functions.
  const named = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
  const requested = (json) => ({
    ...json, challenge: bytes(json.challenge), allowCredentials: named(json.allowCredentials),
  });
  const created = (json) => ({
    ...json, challenge: bytes(json.challenge), user: { ...json.user, id: bytes(json.user.id) },
    excludeCredentials: named(json.excludeCredentials),
  });
  const told = (credential) => {
    const given = credential.response;
    const response = { clientDataJSON: text(given.clientDataJSON) };
    for (const part of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (given[part]) response[part] = text(given[part]);
    }
    if (given.getTransports) response.transports = given.getTransports();
    return JSON.stringify({
      id: credential.id, rawId: text(credential.rawId), type: credential.type, response,
      authenticatorAttachment: credential.authenticatorAttachment || undefined,
      extensions: credential.getClientExtensionResults(),
    });
  };

  for (const field of document.querySelectorAll("[data-passkey]")) {
    const place = field.closest(".key");
    const button = place.querySelector("[data-passkey-button]");
    const error = place.querySelector("[data-passkey-error]");
    const say = (words) => { error.textContent = words; error.hidden = !words; };
    if (!window.PublicKeyCredential) {
      say(error.dataset.passkeyNone);
      continue;
    }
    button.hidden = false;
    button.addEventListener("click", async () => {
      say("");
      button.disabled = true;
      try {
        let options = JSON.parse(field.dataset.options);
        options = options.publicKey || options;
        const credential = field.dataset.passkey === "create"
          ? await navigator.credentials.create({ publicKey: created(options) })
          : await navigator.credentials.get({ publicKey: requested(options) });
        field.value = told(credential);
        // The button that chooses this way, where there are several.
        const choice = place.parentElement.querySelector("button[name=group]");
        field.form.requestSubmit(choice);
      } catch {
        // Declined, timed out, no such key: the browser has said so already.
        say(error.dataset.passkeyError);
        button.disabled = false;
      }
    });
    if (field.form.hasAttribute("data-passkey-first")) button.focus();
  }
})();

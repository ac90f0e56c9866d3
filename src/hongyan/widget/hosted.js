/* The hosted page: hands the proof back to whoever sent this person here. */
addEventListener("hongyan:verified", (event) => {
  const form = document.getElementById("back");
  const { proof, state } = form.elements;
  proof.value = event.detail.proof;
  document.querySelector("hongyan-verify").hidden = true;
  form.hidden = false; // with its button, should the browser not leave by itself
  if (form.dataset.mode === "post") {
    form.submit();
    return;
  }
  const leave = () => location.replace(`${form.action}#${new URLSearchParams({ proof: proof.value, state: state.value })}`);
  form.addEventListener("submit", (submit) => { submit.preventDefault(); leave(); });
  leave();
});

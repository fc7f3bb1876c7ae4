// What changes something: submit, stop, pause, resume. The token proves that the request comes from this page.
import {$} from './util.js';

const token = document.querySelector('meta[name="idunno-token"]').content;

async function send(path, body) {
  const response = await fetch(
      path, {method: 'POST', headers: {'Content-Type': 'application/json', 'X-Idunno-Token': token}, body: JSON.stringify(body)});
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the dashboard answered ${response.status}`);
  return answer;
}

let hide = 0;
export function toast(text, bad = false) {
  const box = $('toast');
  box.textContent = text;
  box.classList.toggle('bad', bad);
  box.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => {
    box.hidden = true;
  }, bad ? 8000 : 4000);
}

function confirmStop(job) {
  const dialog = $('confirm-dialog');
  $('h-confirm').textContent = `Stop j${job.id}?`;
  $('confirm-text').textContent =
      `${job.name}: ${job.done} queries are done and stay. A stopped job cannot be resumed; Pause can.`;
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), {once: true}));
}

export async function act(job, action) {
  if (action === 'stop' && !(await confirmStop(job))) return;
  try {
    const answer = await send('/api/job', {job: `j${job.id}`, action});
    toast(`${answer.id} is ${answer.state}`);
  } catch (error) {
    toast(error.message, true);
  }
}

async function fillChoices(form) {
  const response = await fetch('/api/choices');
  const choices = await response.json();
  if (!response.ok) throw new Error(choices.error);
  const models = form.elements.model;
  const before = models.value;
  models.replaceChildren(...choices.models.map((model) => new Option(model, model)));
  if (choices.models.includes(before)) models.value = before;
  $('folders').replaceChildren(...choices.data.map((path) => new Option(path, path)));
  if (choices.models.length === 0)
    throw new Error('there is no model yet: `idunno model init resnet18` or `idunno model add` adds one');
}

export function wireForms() {
  const dialog = $('submit-dialog'), form = $('submit-form'), problem = $('submit-error');
  let key = '';  // the same attempt again is the same job
  const say = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };
  $('open-submit').addEventListener('click', () => {
    say('');
    key = `dash-${crypto.getRandomValues(new Uint32Array(4)).join('-')}`;
    dialog.showModal();
    fillChoices(form).catch((error) => say(error.message));
  });
  $('submit-cancel').addEventListener('click', () => dialog.close());
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(form));
    const missing = [...form.elements].find((field) => field.required && !field.value.trim());
    if (missing) {
      say(`${missing.name} is wanted`);
      return missing.focus();
    }
    $('submit-send').disabled = true;
    try {
      const answer = await send('/api/submit', {...fields, id: key});
      dialog.close();
      toast(`${answer.id} is submitted`);
    } catch (error) {
      say(error.message);
    } finally {
      $('submit-send').disabled = false;
    }
  });
}

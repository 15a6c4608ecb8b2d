// The playground, as somebody uses it who types into its panes and presses its buttons.
import assert from 'node:assert/strict';

export class Playground {
  constructor(page) {
    this.page = page;
  }

  /** Opens it and waits until the schema is there, which it reads by introspection. */
  static async open(page, address) {
    const introspected = page.waitForResponse((response) => response.url().endsWith('/graphql'));
    await page.goto(address);
    await page.waitForSelector('.graphiql-query-editor .view-line');
    await introspected;
    await page.waitForSelector('.graphiql-spinner', { state: 'detached' });
    return new Playground(page);
  }

  /** The text of a pane: operation, variables, headers or response. */
  read(pane) {
    return this.page.evaluate((pane) => {
      const editors = globalThis.__MONACO.editor.getEditors();
      return editors.find((editor) => editor.getModel()?.uri.path.includes(pane))?.getValue() ?? '';
    }, pane);
  }

  /** Puts a text into a pane that is open. Not key by key: the editor would close each bracket and quote once more. */
  async write(pane, text) {
    if (pane !== 'operation') {
      await this.page.getByRole('button', { name: pane === 'headers' ? 'Headers' : 'Variables', exact: true }).click();
    }
    await this.page.evaluate(
      ([pane, text]) => {
        const editors = globalThis.__MONACO.editor.getEditors();
        editors.find((editor) => editor.getModel()?.uri.path.includes(pane)).setValue(text);
        // GraphiQL takes what is typed half a second later, by a timer of this page that no later one overtakes.
        return new Promise((done) => setTimeout(done, 700));
      },
      [pane, text],
    );
  }

  async writeVariables(change) {
    const variables = JSON.parse(await this.read('variables'));
    change(variables);
    await this.write('variables', JSON.stringify(variables, null, 2));
  }

  /** Chooses an operation from the play button's menu. */
  async run(operation) {
    await this.page.click('.graphiql-execute-button');
    await this.page.getByRole('menuitem', { name: operation, exact: true }).click();
  }

  /** The answer in the response pane, once it is what is waited for. */
  async answer(isIt, what) {
    for (let tries = 0; tries < 200; tries += 1) {
      const text = await this.read('response');
      if (text !== '') {
        const answer = JSON.parse(text);
        if (isIt(answer)) return answer;
      }
      await this.page.waitForTimeout(50);
    }
    return assert.fail(`${what} does not come: ${await this.read('response')}`);
  }
}

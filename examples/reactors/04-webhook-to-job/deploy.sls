{#- The caller is a stranger: whatever he sends is looked at first, and then only ever quoted. #}
{%- set post = data.get('post') or {} %}
{%- if post is mapping and post.get('minions') is list and post.get('version') is string %}
deploy_from_webhook:
  local.test.arg:
    # A list of names, so that "*" means a minion of that name and not all of them.
    - tgt: {{ post['minions'] | tojson }}
    - tgt_type: list
    - args:
      - webhook: deploy
      - version: {{ post['version'] | tojson }}
{%- endif %}
